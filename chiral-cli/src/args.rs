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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_numbers_are_rejected() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(rate("0.5").map(Rate::as_hz), Ok(0.5));
        for text in ["", "x", "-1", "nan", "inf"] {
            assert!(seconds(text).is_err(), "{text:?}");
            assert!(rate(text).is_err(), "{text:?}");
        }
        assert!(rate("0").is_err());
    }
}
