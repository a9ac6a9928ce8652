/* The C ABI from C: a robot with a token and a contract, and a policy that is connected again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <chiral.h>

static const char token_text[] = "6d1f0c8f2f6be3cf1a2a1fb0b5a5e6f7";

#define CHECK(is)                                                                            \
    do {                                                                                     \
        if (!(is)) {                                                                         \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #is, chiral_last_error()); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

#define HAS(text, part) CHECK(strstr((text), (part)) != NULL)

/* Written by chiral's threads, each before the handle is freed whose thread it is. */
struct seen {
    int events[8];
    int count;
    char why_stopped[200];
    int is_stopped;
};

static int32_t on_stop(void *user, const char *reason, double silent_for) {
    struct seen *seen = user;
    (void)silent_for;
    snprintf(seen->why_stopped, sizeof seen->why_stopped, "%s", reason);
    __atomic_store_n(&seen->is_stopped, 1, __ATOMIC_RELEASE);
    return 0;
}

static int32_t on_connection(void *user, const chiral_connection_event *event) {
    struct seen *seen = user;
    if (seen->count < 8 && event->text[0] != '\0') {
        seen->events[seen->count++] = event->kind;
    }
    chiral_fail("the lamp is broken");
    return -1;
}

static chiral_server *listen_on(const char *address) {
    static const float low[] = {-1, -2}, high[] = {1, 2}, step[] = {0.5F};
    chiral_token token = {.size = sizeof token, .text = token_text};
    chiral_action_spec spec = {.size = sizeof spec, .width = 2, .kind = CHIRAL_ABSOLUTE};
    chiral_server_config config = {.size = sizeof config, .action = &spec, .token = &token};
    chiral_server *server = NULL;
    spec.low = low;
    spec.low_count = 2;
    spec.high = high;
    spec.high_count = 2;
    spec.max_step = step;
    spec.max_step_count = 1;
    spec.arming = CHIRAL_ARM_ON_RESET;
    CHECK(chiral_server_bind(address, &config, &server) == CHIRAL_OK);
    CHECK(chiral_server_fingerprint(server) == NULL);
    return server;
}

static void the_contract_is_read(const chiral_client *client) {
    chiral_contract *contract = NULL;
    chiral_action_spec spec = {.size = sizeof spec};
    chiral_map *metadata = NULL;
    CHECK(chiral_client_metadata(client, &metadata) == CHIRAL_OK);
    chiral_map_free(metadata);
    CHECK(chiral_client_contract(client, &contract) == CHIRAL_OK);
    CHECK(chiral_contract_spec(contract, &spec) == CHIRAL_OK);
    CHECK(spec.width == 2 && spec.kind == CHIRAL_ABSOLUTE && spec.arming == CHIRAL_ARM_ON_RESET);
    CHECK(spec.low_count == 2 && spec.low[1] == -2 && spec.max_step_count == 1 && spec.max_step[0] == 0.5F);
    CHECK(spec.hold == NULL && spec.rate == 0 && spec.max_obs_age == 5);
    HAS(chiral_contract_text(contract), "armed by a reset");
    chiral_contract_free(contract);
}

int main(void) {
    struct seen seen = {{0}, 0, "", 0};
    char address[100], uri[120];
    const float good[] = {0.25F, 0}, bad[] = {9, 0};
    float action[2];
    chiral_sensors *sensors = NULL;
    chiral_client *client = NULL;
    chiral_observation *observation = NULL;
    chiral_robot robot = {.size = sizeof robot, .user = &seen, .on_stop = on_stop};
    chiral_token token = {.size = sizeof token, .text = "0123456789abcdef"};
    chiral_reconnect reconnect = {.size = sizeof reconnect, .initial = 0.01, .max = 0.05};
    chiral_client_config config = {.size = sizeof config, .connect_timeout = 20};
    chiral_contract_status status = {.size = sizeof status};
    chiral_connection_event event = {.size = sizeof event};
    chiral_server *server = listen_on("127.0.0.1:0");
    chiral_commands *commands = NULL;

    CHECK(chiral_sensors_new(NULL, 0, NULL, 0, &sensors) == CHIRAL_OK);
    CHECK(chiral_server_start(server, sensors, &robot) == CHIRAL_OK);
    CHECK(chiral_server_arm(server) == CHIRAL_NOTHING);
    CHECK(chiral_server_contract_status(server, &status) == CHIRAL_NOTHING);
    snprintf(uri, sizeof uri, "%s", chiral_server_uri(server));
    snprintf(address, sizeof address, "%s", uri + strlen("ws://"));

    config.token = &token;
    config.reconnect = &reconnect;
    config.on_connection = on_connection;
    config.user = &seen;
    CHECK(chiral_client_connect(uri, &config, &client) == CHIRAL_UNREACHABLE && client == NULL);
    HAS(chiral_last_error(), "401");
    token.file = "/nowhere";
    CHECK(chiral_client_connect(uri, &config, &client) == CHIRAL_MISUSE);
    HAS(chiral_last_error(), "expected one of text, file and variable");
    token.file = NULL;
    token.text = token_text;
    CHECK(chiral_client_connect(uri, &config, &client) == CHIRAL_OK);
    CHECK(chiral_client_state(client) == CHIRAL_OK);

    the_contract_is_read(client);
    CHECK(chiral_client_send(client, NULL, bad, 2) == CHIRAL_REFUSED);
    HAS(chiral_last_error(), "element 0 of the action is 9, expected -1 to 1");
    CHECK(chiral_client_get(client, &observation) == CHIRAL_OK);
    chiral_observation_free(observation);
    CHECK(chiral_client_contract_status(client, &status) == CHIRAL_OK && status.state == CHIRAL_DISARMED);
    CHECK(chiral_client_reset(client, &observation, NULL) == CHIRAL_OK);
    chiral_observation_free(observation);
    CHECK(chiral_server_contract_status(server, &status) == CHIRAL_OK && status.state == CHIRAL_ARMED);
    CHECK(chiral_server_stop_motion(server) == CHIRAL_OK);
    CHECK(chiral_server_contract_status(server, &status) == CHIRAL_OK && status.state == CHIRAL_STOPPED);
    CHECK(chiral_server_arm(server) == CHIRAL_OK);
    CHECK(chiral_server_contract_status(server, &status) == CHIRAL_OK && status.state == CHIRAL_ARMED);
    while (!__atomic_load_n(&seen.is_stopped, __ATOMIC_ACQUIRE)) {
        CHECK(chiral_client_get(client, &observation) == CHIRAL_OK);
        chiral_observation_free(observation);
    }
    HAS(seen.why_stopped, "its own program stopped it");

    /* The robot ends, and another one begins that pulls. */
    chiral_server_free(server);
    CHECK(chiral_client_next_event(client, 20, &event) == CHIRAL_OK && event.kind == CHIRAL_CONNECTION_LOST);
    HAS(event.text, "the connection was interrupted");
    CHECK(chiral_client_next_event(client, 0, &event) == CHIRAL_NOTHING);
    CHECK(chiral_client_state(client) == CHIRAL_INTERRUPTED);
    CHECK(chiral_client_send(client, NULL, good, 2) == CHIRAL_INTERRUPTED);
    server = listen_on(address);
    CHECK(chiral_server_pull(server, sensors, NULL, &commands) == CHIRAL_OK);
    CHECK(chiral_client_next_event(client, 20, &event) == CHIRAL_OK && event.kind == CHIRAL_CONNECTION_RESTORED);
    CHECK(event.attempts >= 1 && event.down_for > 0);
    /* A robot that pulls has a watchdog. */
    CHECK(chiral_client_next_event(client, 20, &event) == CHIRAL_OK && event.kind == CHIRAL_CONTRACT_CHANGED);
    CHECK(chiral_commands_action(commands, action, 2) == CHIRAL_NOTHING);
    CHECK(chiral_commands_arm(commands) == CHIRAL_OK);
    CHECK(chiral_client_get(client, &observation) == CHIRAL_OK);
    CHECK(chiral_client_send(client, observation, good, 2) == CHIRAL_OK);
    chiral_observation_free(observation);
    while (chiral_commands_action(commands, action, 2) == CHIRAL_NOTHING) {
        CHECK(chiral_client_state(client) == CHIRAL_OK);
    }
    CHECK(action[0] == 0.25F && chiral_commands_stop_motion(commands) == CHIRAL_OK);

    chiral_client_free(client);
    CHECK(seen.count == 4 && seen.events[0] == CHIRAL_CONNECTION_LOST);
    CHECK(seen.events[1] == CHIRAL_CONNECTION_RESTORED && seen.events[2] == CHIRAL_CONTRACT_CHANGED);
    CHECK(seen.events[3] == CHIRAL_CONNECTION_ENDED);
    chiral_commands_free(commands);
    chiral_server_free(server);
    chiral_sensors_free(sensors);
    printf("ok     the C ABI from C\n");
    return 0;
}
