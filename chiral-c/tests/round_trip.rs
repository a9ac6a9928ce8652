//! The functions of the header, called as C calls them.

use std::ffi::CStr;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use chiral_c::{
    CHIRAL_MISUSE, CHIRAL_NOTHING, CHIRAL_OK, chiral_client, chiral_client_close,
    chiral_client_connect, chiral_client_free, chiral_client_queued, chiral_client_send,
    chiral_commands, chiral_commands_action, chiral_commands_free, chiral_commands_must_hold,
    chiral_last_error, chiral_map_free, chiral_map_json, chiral_map_new, chiral_map_remove,
    chiral_map_set, chiral_map_set_json, chiral_sensors, chiral_sensors_free, chiral_sensors_new,
    chiral_sensors_publish, chiral_server, chiral_server_bind, chiral_server_free,
    chiral_server_pull, chiral_server_uri, chiral_status,
};

fn last_error() -> String {
    // SAFETY: it is a text, and no function is called before it is copied.
    unsafe { CStr::from_ptr(chiral_last_error()) }.to_str().expect("UTF-8").to_owned()
}

#[track_caller]
fn done(status: chiral_status) {
    assert_eq!(status, CHIRAL_OK, "{}", last_error());
}

/// A robot that pulls, and a policy that is connected to it.
struct Pair {
    sensors: *mut chiral_sensors,
    server: *mut chiral_server,
    commands: *mut chiral_commands,
    client: *mut chiral_client,
}

impl Pair {
    fn new() -> Self {
        let (mut sensors, mut server) = (null_mut(), null_mut());
        let (mut commands, mut client) = (null_mut(), null_mut());
        // SAFETY: texts, and places for handles.
        unsafe {
            done(chiral_sensors_new(null(), 0, null(), 0, &raw mut sensors));
            done(chiral_server_bind(c"127.0.0.1:0".as_ptr(), null(), &raw mut server));
            done(chiral_server_pull(server, sensors, null(), &raw mut commands));
            done(chiral_client_connect(chiral_server_uri(server), null(), &raw mut client));
        }
        Self { sensors, server, commands, client }
    }

    /// The next action of three values, waiting for it.
    fn next(&self) -> [f32; 3] {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut values = [0.0; 3];
        loop {
            // SAFETY: a handle, and room for three values.
            match unsafe { chiral_commands_action(self.commands, values.as_mut_ptr(), 3) } {
                CHIRAL_NOTHING => assert!(Instant::now() < deadline, "no action has come"),
                status => {
                    done(status);
                    return values;
                }
            }
        }
    }

    fn send(&self, values: &[f32]) {
        // SAFETY: a handle, and so many values.
        done(unsafe { chiral_client_send(self.client, null(), values.as_ptr(), values.len()) });
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // SAFETY: handles that nobody uses any more.
        unsafe {
            chiral_client_free(self.client);
            chiral_commands_free(self.commands);
            chiral_server_free(self.server);
            chiral_sensors_free(self.sensors);
        }
    }
}

#[test]
fn a_robot_that_pulls_gets_what_a_policy_sends() {
    let pair = Pair::new();
    // SAFETY: a handle.
    assert!(unsafe { chiral_commands_must_hold(pair.commands) });
    pair.send(&[1.0, 2.5, -3.0]);
    assert_eq!(pair.next().map(f32::to_bits), [1.0, 2.5, -3.0].map(f32::to_bits));
    // SAFETY: a handle.
    assert!(!unsafe { chiral_commands_must_hold(pair.commands) });
}

#[test]
fn pulling_an_action_allocates_nothing() {
    let pair = Pair::new();
    for round in 0..100_u8 {
        let sent = [f32::from(round); 3];
        pair.send(&sent);
        let mut got = [0.0; 3];
        let counted = allocation_counter::measure(|| got = pair.next());
        assert_eq!(got.map(f32::to_bits), sent.map(f32::to_bits));
        assert_eq!(counted.count_total, 0, "in round {round}");
    }
}

#[test]
fn an_action_of_another_width_is_told() {
    let pair = Pair::new();
    pair.send(&[1.0]);
    let mut values = [0.0; 3];
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        // SAFETY: a handle, and room for three values.
        match unsafe { chiral_commands_action(pair.commands, values.as_mut_ptr(), 3) } {
            CHIRAL_NOTHING => assert!(Instant::now() < deadline, "no action has come"),
            status => break status,
        }
    };
    assert_eq!(status, CHIRAL_MISUSE);
    assert!(last_error().contains("shape [1] came, expected 3 values"), "{}", last_error());
    // SAFETY: a handle.
    assert!(unsafe { chiral_commands_must_hold(pair.commands) }, "it was passed over");
    pair.send(&[1.0, 2.0, 3.0]);
    pair.next();
    // SAFETY: a handle.
    assert!(!unsafe { chiral_commands_must_hold(pair.commands) });
}

#[test]
fn a_key_is_removed_from_a_map_and_the_others_stay() {
    let map = chiral_map_new();
    // SAFETY: a handle, and texts.
    unsafe {
        done(chiral_map_set(map, c"phase".as_ptr(), c"lift".as_ptr()));
        done(chiral_map_set_json(map, c"shape".as_ptr(), c"[1,2]".as_ptr()));
        done(chiral_map_remove(map, c"phase".as_ptr()));
        done(chiral_map_remove(map, c"phase".as_ptr()));
        assert_eq!(CStr::from_ptr(chiral_map_json(map)), c"{\"shape\":[1,2]}");
        chiral_map_free(map);
    }
}

#[test]
fn null_pointers_are_errors() {
    // SAFETY: null pointers are allowed.
    unsafe {
        assert_eq!(chiral_client_close(null()), CHIRAL_MISUSE);
        assert_eq!(last_error(), "client is a null pointer");
        assert_eq!(chiral_client_connect(null(), null(), null_mut()), CHIRAL_MISUSE);
        assert_eq!(chiral_client_queued(null()), 0);
        chiral_client_free(null_mut());
        assert!(chiral_map_json(null()).is_null());
        assert_eq!(chiral_sensors_publish(null(), 0, null()), CHIRAL_MISUSE);
    }
}
