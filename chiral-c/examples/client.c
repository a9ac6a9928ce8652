/* A policy in C: looks, and answers each look with an action.
 *
 *   example_c_client [uri [observations]]
 */
#include <stdio.h>
#include <stdlib.h>

#include <chiral.h>

static int failed(void) {
    fprintf(stderr, "%s\n", chiral_last_error());
    return 1;
}

/* A reset arms a robot that declares so. Its contract comes with its metadata, and is checked from then
   on: what it does not allow is not sent. */
static chiral_status begin(const chiral_client *client) {
    chiral_map *metadata = NULL;
    chiral_observation *observation = NULL;
    chiral_status status = chiral_client_metadata(client, &metadata);
    chiral_map_free(metadata);
    if (status < 0) {
        return status;
    }
    status = chiral_client_reset(client, &observation, NULL);
    chiral_observation_free(observation);
    return status < 0 ? status : chiral_client_stream(client, 50);
}

int main(int argc, char **argv) {
    const char *uri = argc > 1 ? argv[1] : "ws://127.0.0.1:8765";
    long left = argc > 2 ? atol(argv[2]) : 100;
    chiral_client_config config = {.size = sizeof config, .connect_timeout = 30};
    chiral_client *client = NULL;
    chiral_set_log(CHIRAL_LOG_INFO, NULL, NULL);
    if (chiral_client_connect(uri, &config, &client) < 0 || begin(client) < 0) {
        chiral_client_free(client);
        return failed();
    }
    for (; left > 0; --left) {
        chiral_observation *observation = NULL;
        chiral_array image = {.size = sizeof image};
        float action[7] = {0};
        chiral_status status = chiral_client_next(client, 1.0, &observation);
        if (status == CHIRAL_NOTHING) {
            printf("no observation for a second\n");
            continue;
        }
        if (status == CHIRAL_OK) {
            status = chiral_observation_image(observation, 0, &image);
        }
        if (status == CHIRAL_OK && image.len > 0) {
            action[0] = (float)*(const unsigned char *)image.data / 255.0F;
            status = chiral_client_send(client, observation, action, 7);
        }
        chiral_observation_free(observation);
        if (status < 0) {
            chiral_client_free(client);
            return failed();
        }
    }
    printf("%s\n", chiral_client_stats_text(client));
    chiral_client_close(client);
    chiral_client_free(client);
    return 0;
}
