//! One suite for all adapters: every client against every server, over real sockets.
//!
//! The cases are written once, against the traits of [`chiral_tests::adapter`]; the grid below makes a test of
//! each case and each pair, such as `tokio_client::tokio_server::calls::…`. What concerns one side
//! alone is tested with each adapter of that side.
//!
//! Some of the pairs, with each adapter on both sides, are tested over Unix sockets too:
//! `unix::smol_blocking::calls::…`.
//!
//! What concerns a pair is tested over streams and transports, too, that users could have written:
//! `outsider::frames::tokio_blocking::calls::…`.
//!
//! The same pairs are tested over TLS: `tls::smol_blocking::calls::…`.
//!
//! With the feature `zenoh`, what concerns a pair is tested over Zenoh too, with some of the pairs:
//! `zenoh::named::smol_blocking::calls::…`.

mod actions;
mod calls;
mod connecting;
mod contract;
mod faults;
mod faulty_clients;
mod faulty_servers;
mod floods;
mod handshakes;
mod liveness;
mod log;
mod lost_connections;
mod malformed;
mod network;
mod pair;
mod reconnect;
mod relay;
mod robots;
mod several_policies;
mod shutdown;
mod streams;
mod supervise;
mod timing;

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
            const SERVER: crate::pair::Server =
                crate::pair::Server { adapter: &$adapter, network: &crate::network::Tcp };
            server_cases! {}
            linux_cases! { server }
        })*
    };
    (@clients $servers:tt $($client:ident: $adapter:path;)*) => {
        $(mod $client {
            const CLIENT: crate::pair::Client = crate::pair::Client(&$adapter);
            client_cases! {}
            linux_cases! { client }
            grid! { @servers $servers }
        })*
    };
    (@servers [$($server:ident: $adapter:path;)*]) => {
        $(mod $server {
            const PAIR: crate::pair::Pair = crate::pair::Pair {
                client: super::CLIENT,
                server: crate::pair::Server { adapter: &$adapter, network: &crate::network::Tcp },
            };
            pair_cases! {}
            tcp_cases! {}
        })*
    };
}

macro_rules! client_cases {
    () => {
        cases! {
            super::CLIENT;
            connecting {
                connecting_retries_until_the_server_is_up_and_logs_once
                connecting_stops_at_the_timeout
                connecting_to_a_silent_server_times_out
                connecting_to_another_kind_of_server_fails_at_once
                what_is_waited_for_is_told_while_a_try_goes_on
                answers_that_may_pass_are_waited_out
                an_answer_that_may_pass_is_told_at_the_timeout
                a_name_that_does_not_exist_is_told_after_a_few_tries
                header_fields_are_sent_with_the_request
                frames_sent_right_after_the_handshake_are_not_lost
            }
            reconnect {
                a_policy_is_closed_at_once_in_the_middle_of_a_handshake
            }
            faulty_servers {
                bad_messages_close_the_connection_with_a_reason
                websocket_violations_close_the_connection_with_a_reason
                a_server_that_disconnects_at_any_byte_fails_every_call
                a_server_that_stops_reading_blocks_no_caller_and_loses_no_action
            }
            floods {
                a_server_that_never_ends_its_handshake_is_given_up
            }
            tls {
                a_client_connects_to_no_server_that_it_does_not_trust
                a_client_with_tls_is_told_of_a_server_without
                a_server_that_is_silent_in_its_tls_handshake_is_given_up
            }
            liveness {
                a_silent_server_is_noticed_and_calls_fail_by_their_deadline
            }
        }
    };
}

macro_rules! server_cases {
    () => {
        cases! {
            super::SERVER;
            handshakes {
                the_refusal_reason_arrives_even_after_unread_data
                a_leaving_policy_frees_the_robot_immediately
                a_hanging_robot_does_not_accumulate_policies
                unfinished_handshakes_block_nobody
                an_aborted_handshake_is_forgotten
                frames_sent_right_after_the_handshake_are_not_lost
                non_websocket_requests_get_an_http_response
                a_client_of_another_protocol_takes_no_place
                a_rejected_request_disturbs_nobody
                web_pages_are_refused
                pings_are_answered_while_the_robot_is_busy
                connections_during_shutdown_are_refused_with_a_reason
            }
            faulty_clients {
                bad_messages_close_the_connection_with_a_reason
                websocket_violations_close_the_connection_with_a_reason
                messages_after_a_bad_one_do_not_reach_the_robot
                a_client_that_disconnects_at_any_byte_is_noticed
            }
            floods {
                strangers_who_send_without_end_disturb_no_policy
                policies_that_wait_for_the_robot_make_room_for_others
                refused_connections_that_stay_are_closed
                a_reset_behind_a_close_ends_the_connection_at_once
            }
            tls {
                a_client_without_tls_is_told_how_to_connect
                unfinished_tls_handshakes_block_nobody
                a_tls_handshake_without_end_is_given_up
                a_slow_tls_handshake_is_given_up_in_time
                wrong_tokens_are_answered_ten_times_a_minute
                requests_without_a_token_lock_nobody_out
            }
            liveness {
                pending_actions_are_dropped_when_the_policy_is_killed
                an_ordered_queue_holds_a_fast_policy_up_and_loses_no_action
                a_held_up_policy_that_goes_ends_the_connection
                a_slow_robot_applies_the_newest_action_and_is_told_of_the_others
                a_policy_on_a_frozen_link_loses_the_robot_to_the_next
                actions_that_do_not_fit_never_reach_the_robot
            }
        }
    };
}

/// What is Linux's.
macro_rules! linux_cases {
    (client) => {
        #[cfg(target_os = "linux")]
        mod on_linux {
            cases! {
                super::super::CLIENT;
                liveness { actions_expire_while_the_network_is_stalled }
            }
        }
    };
    (server) => {
        #[cfg(target_os = "linux")]
        mod on_linux {
            cases! {
                super::super::SERVER;
                floods { a_flood_of_handshakes_evicts_only_its_own_source }
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
                every_request_type_is_answered
                an_observation_arrives_unchanged
                a_large_observation_arrives_intact
                actions_of_any_shape_and_dtype_arrive
                concurrent_calls_beside_a_stream_get_their_own_replies
                a_call_times_out_and_its_late_reply_is_dropped
                cloned_handles_share_one_connection
            }
            timing {
                both_sides_tell_where_the_time_of_an_action_went
                an_observation_that_is_too_old_is_refused
            }
            streams {
                a_stream_delivers_new_observations_at_its_rate
                a_stream_can_be_stopped_and_restarted
                a_slow_policy_gets_no_backlog
                an_observation_can_be_looked_for_without_waiting
                a_slow_robot_lowers_the_rate_and_gets_no_backlog
                slow_observations_do_not_delay_actions
                blocking_observe_does_not_delay_actions
                actions_arrive_while_a_large_observation_is_stalled
                large_observations_stream_alongside_action_dispatch
            }
            actions {
                a_chunk_carries_the_timestamps_of_its_own_observation
                the_policy_can_clear_and_replace_queued_actions
                dispatch_stays_on_its_grid_and_counts_starved_ticks
                actions_older_than_max_age_are_never_sent
                a_chunk_goes_on_where_the_robot_is
                a_policy_waits_until_its_plan_is_low
                a_starved_policy_sends_what_the_robot_declared
                no_action_outlives_its_policys_connection
                a_reset_is_ordered_with_slow_actions
                a_step_is_ordered_with_slow_actions
                the_watchdog_fires_for_a_silent_policy
            }
            contract {
                what_the_contract_forbids_is_refused_on_both_ends
                what_exceeds_the_bounds_is_clamped_and_marked
                a_silent_policy_stops_the_robot_until_it_is_armed_again
                a_silent_policy_stops_a_robot_that_is_never_told_to_hold
                a_reset_arms_a_robot_that_waits_for_it
                a_robot_is_told_of_a_stop_before_it_resets
                a_step_of_before_a_stop_is_not_executed
                nothing_is_replayed_when_a_policy_comes_back
                a_stop_drops_what_waits_and_what_is_planned
            }
            liveness {
                a_slow_late_observation_delays_no_action
            }
            several_policies {
                a_second_policy_is_refused_and_the_first_continues
                a_policy_is_admitted_as_soon_as_the_previous_one_leaves
                a_policy_waits_for_a_robot_that_is_not_up_yet
                a_reset_queued_before_disconnect_is_not_executed
                a_policy_over_the_server_limits_is_told_why
            }
            robots {
                a_robot_error_reaches_the_policy_and_the_next_is_admitted
                a_robot_panic_reaches_the_policy_and_the_next_is_admitted
                a_panic_in_a_deferred_observation_reaches_the_policy
            }
            lost_connections {
                connection_lost_while_idle
                connection_lost_with_pending_requests
                connection_lost_during_a_reset
                connection_lost_while_streaming_and_dispatching
                a_busy_peer_that_answers_pings_is_kept
            }
            shutdown {
                shutdown_without_a_policy
                shutdown_while_idle
                shutdown_answers_requests_in_progress
                shutdown_while_streaming_and_dispatching
                shutdown_stops_waiting_at_its_timeout
                a_server_can_restart_on_the_same_address
                a_dropped_server_closes_the_connection
                a_dropped_policy_closes_the_connection
                closing_a_policy_does_not_wait_for_replies
            }
        }
    };
}

/// What a pair does over any transport that the client makes itself, and can make again.
macro_rules! connected_cases {
    () => {
        common_cases! {}
        cases! {
            super::PAIR;
            reconnect {
                a_policy_goes_on_with_a_restarted_robot
                requests_in_flight_fail_once_when_the_network_drops_the_connection
                a_supervised_policy_does_not_notice_a_restart
                no_plan_is_asked_for_while_the_robot_is_away
                a_robot_that_stays_away_is_given_up
                a_policy_is_closed_at_once_in_a_pause_between_two_tries
            }
        }
    };
}

macro_rules! pair_cases {
    () => {
        connected_cases! {}
        mod on_a_socket {
            cases! {
                super::super::PAIR;
                lost_connections {
                    connection_lost_during_the_handshake
                    connection_lost_before_the_handshake_response
                    connection_lost_during_a_large_observation
                    connection_lost_while_a_large_observation_is_stalled
                    a_silent_connection_times_out_on_both_sides
                }
                faults {
                    random_faults
                    breaks_at_sampled_bytes
                    single_bytes_carry_a_session
                }
                reconnect {
                    a_server_that_rejects_the_policy_ends_it
                    a_robot_that_was_taken_over_is_not_taken_back
                    a_stream_goes_on_after_a_loss_in_a_large_observation
                }
                several_policies {
                    a_policy_waits_for_its_turn
                    the_newest_policy_takes_the_robot_over
                }
                liveness {
                    a_frozen_camera_shows_in_the_statistics_of_both_sides
                    actions_decided_on_old_observations_are_dropped
                }
            }
        }
    };
}

/// What a pair does over TCP alone.
macro_rules! tcp_cases {
    () => {
        mod over_tcp {
            cases! {
                super::super::PAIR;
                tls {
                    a_policy_drives_a_robot_over_tls
                    certificates_of_both_sides_are_checked
                    a_tls_stream_that_is_cut_is_told_from_an_orderly_end
                    a_robot_with_a_token_takes_those_who_have_it
                }
            }
        }
    };
}

// Behind the macros that they use.
mod outsider;
mod tls;
mod unix;
#[cfg(feature = "zenoh")]
mod zenoh;

grid! {
    tokio_client tokio_server: crate::adapters::tokio::ADAPTER;
    smol_client smol_server: crate::adapters::smol::ADAPTER;
    async_std_client async_std_server: crate::adapters::async_std::ADAPTER;
    blocking_client blocking_server: crate::adapters::blocking::ADAPTER;
}
