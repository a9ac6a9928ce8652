//! How arguments are read.

use std::time::Duration;

use chiral_proto::{BadRate, Rate};

/// A rate, in hertz.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let hz: f64 = text.parse().map_err(|_| format!("found {text:?}, expected hertz, as in 30"))?;
    Rate::hz(hz).map_err(|error: BadRate| error.to_string())
}

/// A time, in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || format!("found {text:?}, expected seconds, as in 2.5");
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

/// A robot's URI; HOST:PORT is one on WebSocket.
pub(crate) fn uri(text: &str) -> String {
    let is_socket = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if is_socket { format!("ws://{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_address_is_a_websocket_uri_and_a_uri_stays_as_it_is() {
        for address in ["localhost:8765", "10.0.0.1:1", "[::1]:8765"] {
            assert_eq!(uri(address), format!("ws://{address}"));
        }
        for other in ["ws://a:1", "tcp/a:1", "zenoh:tcp/a:1", "unix:/a:1", "localhost", ":1", "a:x"]
        {
            assert_eq!(uri(other), other);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(rate("0.5").map(Rate::as_hz), Ok(0.5));
        for text in ["", "x", "-1", "nan", "inf"] {
            assert!(seconds(text).is_err(), "{text:?}");
            assert!(rate(text).is_err(), "{text:?}");
        }
        assert!(rate("0").is_err());
    }
}
