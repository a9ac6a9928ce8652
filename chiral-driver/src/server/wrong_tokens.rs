use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// Requests with a wrong token that one source may make in each interval.
const ALLOWED: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(60);
/// Sources that are remembered.
const SOURCES: usize = 1024;

/// Keeps a stranger from guessing: after some wrong tokens its source is not listened to for the
/// rest of the interval, whatever it sends.
#[derive(Default)]
pub(super) struct WrongTokens {
    by_source: HashMap<String, Interval>,
}

struct Interval {
    start: Instant,
    count: u32,
}

impl WrongTokens {
    /// Whether a source has had its attempts.
    pub(super) fn are_too_many(&self, now: Instant, source: &str) -> bool {
        self.by_source
            .get(&network_of(source))
            .is_some_and(|interval| interval.count >= ALLOWED && !interval.is_over(now))
    }

    /// Notes an attempt.
    pub(super) fn note(&mut self, now: Instant, source: &str) {
        let source = network_of(source);
        if !self.by_source.contains_key(&source) && self.by_source.len() >= SOURCES {
            self.by_source.retain(|_, interval| !interval.is_over(now));
            let oldest = self.by_source.iter().min_by_key(|(_, interval)| interval.start);
            if let Some(oldest) = oldest.map(|(source, _)| source.clone())
                && self.by_source.len() >= SOURCES
            {
                self.by_source.remove(&oldest);
            }
        }
        let interval = self.by_source.entry(source).or_insert(Interval { start: now, count: 0 });
        if interval.is_over(now) {
            *interval = Interval { start: now, count: 0 };
        }
        interval.count += 1;
    }
}

impl Interval {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.start) >= INTERVAL
    }
}

/// A source's host or, with IPv6, its network: there a host has as many addresses as it likes.
fn network_of(source: &str) -> String {
    let host = source.trim_matches(['[', ']']);
    // Behind `%` stands the interface of a link-local address.
    match host.split('%').next().unwrap_or(host).parse::<Ipv6Addr>() {
        Ok(address) if address.to_ipv4_mapped().is_none() && !address.is_loopback() => {
            format!("{:x?}", &address.segments()[..4])
        }
        _ => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_guesses_is_not_listened_to_for_a_while_and_others_are() {
        let start = Instant::now();
        let mut wrong = WrongTokens::default();
        for attempt in 0..ALLOWED {
            assert!(!wrong.are_too_many(start, "10.0.0.1"), "attempt {attempt}");
            wrong.note(start, "10.0.0.1");
        }
        assert!(wrong.are_too_many(start, "10.0.0.1"));
        assert!(!wrong.are_too_many(start, "10.0.0.2"));
        assert!(!wrong.are_too_many(start + INTERVAL, "10.0.0.1"));
        wrong.note(start + INTERVAL, "10.0.0.1");
        assert!(!wrong.are_too_many(start + INTERVAL, "10.0.0.1"));
    }

    #[test]
    fn a_host_with_many_addresses_of_one_network_is_one_source() {
        let now = Instant::now();
        let mut wrong = WrongTokens::default();
        for host in 0..ALLOWED {
            wrong.note(now, &format!("[2001:db8:1:2::{host}]"));
        }
        assert!(wrong.are_too_many(now, "[2001:db8:1:2:3::4]"));
        assert!(!wrong.are_too_many(now, "[2001:db8:1:3::1]"));
        for host in 0..ALLOWED {
            wrong.note(now, &format!("[fe80::{host}%2]"));
        }
        assert!(wrong.are_too_many(now, "[fe80::ff%2]"));
    }

    #[test]
    fn no_more_sources_are_remembered_than_there_is_room_for() {
        let now = Instant::now();
        let mut wrong = WrongTokens::default();
        for _ in 0..ALLOWED {
            wrong.note(now + INTERVAL / 2, "10.0.0.1");
        }
        for source in 0..5 * SOURCES {
            wrong.note(now, &source.to_string());
        }
        assert_eq!(wrong.by_source.len(), SOURCES);
        assert!(wrong.are_too_many(now + INTERVAL / 2, "10.0.0.1"), "it came later");
    }
}
