//! The pairs over Zenoh: the cases of the grid that are about robots and policies and not about
//! WebSocket, and what only Zenoh has.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_tests::Recorder;

use crate::cable::Cable;
use crate::pair::Pair;
use crate::supervise::{eventually, soon};

/// Makes the tests of pairs in one of Zenoh's modes.
macro_rules! over_zenoh {
    ($($how:ident $mode_cases:ident { $($pair:ident: $client:ident => $server:ident;)* })*) => {
        $(mod $how {
            $(mod $pair {
                use crate::adapters;
                use crate::adapters::zenoh::OverZenoh;
                use crate::pair::{Client, Pair, Server};

                const PAIR: Pair = Pair {
                    client: Client(&OverZenoh::$how(&adapters::$client::ADAPTER)),
                    server: Server(&OverZenoh::$how(&adapters::$server::ADAPTER)),
                };
                common_cases! {}
                $mode_cases! {}
            })*
        })*
    };
}

macro_rules! common_cases {
    () => {
        cases! {
            super::PAIR;
            calls {
                every_request_brings_its_answer
                an_observation_arrives_to_the_letter
                a_large_observation_arrives_whole
                actions_of_any_shape_and_dtype_arrive
                many_threads_beside_a_stream_swap_no_answer
                a_call_gives_up_in_time_and_its_late_answer_is_nobody_elses
                each_handle_is_one_of_the_same_connection
            }
            streams {
                a_stream_brings_newer_and_newer_ones_at_its_rate
                a_stream_stops_and_starts_again
                for_a_slow_policy_nothing_piles_up
                a_slow_robot_slows_the_stream_and_gets_no_backlog
                no_action_waits_for_a_slow_observation
                nor_for_one_that_blocks_its_thread
                actions_arrive_while_a_large_observation_is_stuck_on_its_way
                large_observations_stream_beside_the_dispatch
            }
            actions {
                a_chunk_carries_the_timestamps_of_its_own_observation
                the_queue_is_the_policys_to_command
                the_dispatch_keeps_to_its_grid_and_counts_starvations
                what_is_older_than_allowed_is_never_sent
                the_last_actions_before_the_end_arrive
                a_reset_is_a_barrier_between_slow_actions
                a_step_keeps_its_place_among_slow_actions
                the_watchdog_barks_over_a_silent_policy
            }
            neighbours {
                a_second_policy_is_refused_with_a_reason_and_the_first_streams_on
                the_next_policy_is_welcome_at_once_behind_one_that_goes
                a_policy_waits_for_a_robot_that_comes_later
                a_robot_that_was_told_to_hold_still_is_not_reset_any_more
                a_policy_over_the_servers_limits_is_told
            }
            robots {
                an_error_is_told_and_the_next_policy_is_welcome
                a_panic_is_told_and_the_next_policy_is_welcome
                so_is_one_of_an_observation_about_to_leave
            }
            cuts {
                while_nothing_happens
                while_requests_wait
                while_the_robot_resets
                in_the_middle_of_a_large_observation
                while_a_large_observation_is_stuck_on_its_way
                while_observations_stream_and_actions_are_dispatched
                whoever_answers_pings_may_be_busy
            }
            ends {
                a_shutdown_with_nobody_there
                a_shutdown_while_nothing_happens
                a_shutdown_answers_what_is_under_way
                a_shutdown_amid_a_stream_and_a_dispatch
                a_shutdown_waits_only_so_long
                a_server_comes_back_where_it_was
                a_dropped_server_says_goodbye
                a_dropped_policy_says_goodbye
                a_policy_that_goes_does_not_wait_for_its_answers
            }
            zenoh {
                a_silent_line_is_given_up_within_the_lease
            }
        }
    };
}

/// What a robot does for a policy that is there before the robot has answered anything.
macro_rules! named_cases {
    () => {
        mod names {
            #[test]
            fn a_robot_that_is_not_done_with_two_policies_has_time_for_a_third() {
                crate::supervise::run(|| {
                    crate::neighbours::a_robot_that_is_not_done_with_two_policies_has_time_for_a_third(
                        super::PAIR,
                    );
                });
            }
        }
    };
}

macro_rules! no_more_cases {
    () => {};
}

over_zenoh! {
    named named_cases {
        tokio_tokio: tokio => tokio;
        smol_blocking: smol => blocking;
        blocking_tokio: blocking => tokio;
    }
    compatible no_more_cases {
        tokio_tokio: tokio => tokio;
        blocking_smol: blocking => smol;
    }
}

/// After how long without a sign of life a peer is taken for gone.
const LEASE: Duration = Duration::from_secs(5);

pub(crate) fn a_silent_line_is_given_up_within_the_lease(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let cable = Cable::to(&served.uri);
    let policy = pair.client.connect(cable.uri());
    soon(|| policy.metadata()).unwrap();
    let start = Instant::now();
    cable.freeze();
    eventually(|| policy.error().is_some());
    let error = policy.error().unwrap();
    assert!(matches!(error, ConnectionError::Lost(_)), "{error:?}");
    let reason = served.robot.until_gone(1);
    assert!(matches!(reason, ConnectionError::Lost(_)), "{reason:?}");
    // The first sign of life that is missed is one of several in a lease.
    let after = start.elapsed();
    assert!((LEASE / 2..2 * LEASE).contains(&after), "{after:?}");
    cable.thaw();
    let next = pair.client.connect(&served.uri);
    soon(|| next.metadata()).unwrap();
}
