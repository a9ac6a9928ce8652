//! One suite for all adapters: every client against every server, over real sockets.
//!
//! The cases are written once, against the traits of [`chiral_tests::adapter`]; the grid below makes a test of
//! each case and each pair, such as `tokio_client::tokio_server::calls::…`. What concerns one side
//! alone is tested with each adapter of that side.
//!
//! With the feature `zenoh`, what concerns a pair is tested over Zenoh too, with some of the pairs:
//! `zenoh::named::smol_blocking::calls::…`.

mod actions;
mod cable;
mod calls;
mod connecting;
mod cuts;
mod ends;
mod malformed;
mod neighbours;
mod pair;
mod robots;
mod rude_clients;
mod rude_servers;
mod streams;
mod supervise;
mod visitors;

use chiral_tests::{adapter, adapters};

/// Makes a test of each case.
macro_rules! cases {
    ($with:expr; $($set:ident { $($case:ident)* })*) => {
        $(mod $set {
            $(#[test]
            fn $case() {
                crate::supervise::run(|| crate::$set::$case($with));
            })*
        })*
    };
}

/// Makes the tests of all adapters.
macro_rules! grid {
    ($($client:ident $server:ident: $adapter:path;)*) => {
        grid! { @clients [$($server: $adapter;)*] $($client: $adapter;)* }
        $(mod $server {
            const SERVER: crate::pair::Server = crate::pair::Server(&$adapter);
            server_cases! {}
        })*
    };
    (@clients $servers:tt $($client:ident: $adapter:path;)*) => {
        $(mod $client {
            const CLIENT: crate::pair::Client = crate::pair::Client(&$adapter);
            client_cases! {}
            grid! { @servers $servers }
        })*
    };
    (@servers [$($server:ident: $adapter:path;)*]) => {
        $(mod $server {
            const PAIR: crate::pair::Pair = crate::pair::Pair {
                client: super::CLIENT,
                server: crate::pair::Server(&$adapter),
            };
            pair_cases! {}
        })*
    };
}

macro_rules! client_cases {
    () => {
        cases! {
            super::CLIENT;
            connecting {
                a_server_that_comes_later_is_tried_in_peace_with_one_notice
                the_wait_ends_when_the_user_says_so
                a_silent_server_is_none
                what_is_no_robot_is_no_reason_to_wait
                what_is_sent_right_behind_the_handshake_is_not_lost
            }
            rude_servers {
                bad_messages_end_with_the_reason_told
                what_breaks_the_websocket_ends_with_the_reason_told
                one_that_breaks_off_anywhere_fails_every_call
                one_that_reads_nothing_holds_no_caller_up_and_loses_no_action
            }
        }
    };
}

macro_rules! server_cases {
    () => {
        cases! {
            super::SERVER;
            visitors {
                the_reason_of_a_refusal_arrives_however_much_was_sent
                whoever_goes_leaves_the_robot_to_the_next_at_once
                a_robot_that_hangs_collects_no_policies
                handshakes_that_are_never_finished_block_nobody
                one_that_breaks_off_its_handshake_is_forgotten
                what_is_sent_right_behind_the_handshake_is_not_lost
                what_is_no_websocket_handshake_is_answered_in_http
                pings_are_answered_while_the_robot_is_busy
                whoever_comes_during_the_shutdown_is_told
            }
            rude_clients {
                bad_messages_end_with_the_reason_told
                what_breaks_the_websocket_ends_with_the_reason_told
                what_comes_behind_a_fault_does_not_reach_the_robot
                one_that_breaks_off_anywhere_is_noticed
            }
        }
    };
}

/// What a pair does over any transport.
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
                no_action_outlives_its_policys_connection
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
        }
    };
}

macro_rules! pair_cases {
    () => {
        common_cases! {}
        mod on_a_socket {
            cases! {
                super::super::PAIR;
                cuts {
                    while_the_opening_handshake_is_under_way
                    before_the_handshake_is_answered
                    in_the_middle_of_a_large_observation
                    while_a_large_observation_is_stuck_on_its_way
                    a_silent_line_is_given_up_by_both
                }
            }
        }
    };
}

// Behind the macros that it uses.
#[cfg(feature = "zenoh")]
mod zenoh;

grid! {
    tokio_client tokio_server: crate::adapters::tokio::ADAPTER;
    smol_client smol_server: crate::adapters::smol::ADAPTER;
    async_std_client async_std_server: crate::adapters::async_std::ADAPTER;
    blocking_client blocking_server: crate::adapters::blocking::ADAPTER;
}
