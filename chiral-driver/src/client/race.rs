//! Which of a host's addresses is connected to: the first that answers (RFC 8305, section 5).

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an address has to answer before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// The order in which addresses are tried, each beside those that have not answered yet. It
/// touches no socket.
#[derive(Debug)]
pub struct Race {
    untried: VecDeque<SocketAddr>,
    /// When the next one is due.
    next_at: Instant,
    running: usize,
    failures: Vec<(SocketAddr, io::Error)>,
}

impl Race {
    /// A race between addresses, as the system has ordered them, which begins now. The families are
    /// tried in turn.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut families = [VecDeque::new(), VecDeque::new()];
        let mut first = None;
        for address in addresses {
            let first = *first.get_or_insert(address.is_ipv6());
            let family = &mut families[usize::from(address.is_ipv6() != first)];
            if !family.contains(&address) {
                family.push_back(address);
            }
        }
        let mut untried = VecDeque::new();
        while families.iter().any(|family| !family.is_empty()) {
            untried.extend(families.iter_mut().filter_map(VecDeque::pop_front));
        }
        Self { untried, next_at: Instant::now(), running: 0, failures: Vec::new() }
    }

    /// The next address, if it is due.
    pub fn start_next(&mut self, now: Instant) -> Option<SocketAddr> {
        if now < self.next_at {
            return None;
        }
        let next = self.untried.pop_front()?;
        self.next_at = now + STAGGER;
        self.running += 1;
        Some(next)
    }

    /// When the next address is due; `None` when all have been started.
    pub fn next_start(&self) -> Option<Instant> {
        (!self.untried.is_empty()).then_some(self.next_at)
    }

    /// An address cannot be connected to: the next one is due at once.
    pub fn fail(&mut self, now: Instant, address: SocketAddr, error: io::Error) {
        self.running -= 1;
        self.next_at = now;
        self.failures.push((address, error));
    }

    /// Why no address could be connected to, once that is so: of several, what each met.
    pub fn error(&mut self) -> Option<io::Error> {
        if self.running > 0 || !self.untried.is_empty() {
            return None;
        }
        let mut failures = std::mem::take(&mut self.failures);
        let Some((_, first)) = failures.first() else {
            return Some(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
        };
        if failures.len() == 1 {
            return failures.pop().map(|(_, only)| only);
        }
        let mut text = String::new();
        for (address, error) in &failures {
            let separator = if text.is_empty() { "" } else { "; " };
            let _ = write!(text, "{separator}{address}: {error}");
        }
        Some(io::Error::new(first.kind(), text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    #[test]
    fn families_are_tried_in_turn_beginning_with_the_systems_first() {
        let found = ["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"];
        let mut race = Race::new(addresses(&found));
        let mut now = Instant::now();
        let mut order = Vec::new();
        while race.next_start().is_some() {
            order.extend(race.start_next(now));
            now += STAGGER;
        }
        let expected = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"];
        assert_eq!(order, addresses(&expected));
    }

    #[test]
    fn the_next_address_is_due_after_the_stagger_or_a_failure() {
        let three = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let mut race = Race::new(three.clone());
        let start = Instant::now();
        assert_eq!(race.start_next(start), Some(three[0]));
        assert_eq!(race.next_start(), Some(start + STAGGER));
        assert_eq!(race.start_next(start + STAGGER / 2), None);
        race.fail(start + STAGGER / 2, three[0], refused());
        assert_eq!(race.start_next(start + STAGGER / 2), Some(three[1]));
        assert_eq!(race.start_next(start + 2 * STAGGER), Some(three[2]));
        assert_eq!(race.next_start(), None);
        assert!(race.error().is_none(), "two are under way");
    }

    #[test]
    fn the_error_names_every_address_that_failed() {
        let two = addresses(&["[::1]:1", "127.0.0.1:1"]);
        let mut race = Race::new(two.clone());
        let now = Instant::now();
        for address in two {
            assert_eq!(race.start_next(now), Some(address));
            race.fail(now, address, refused());
        }
        let error = race.error().expect("all have failed");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            error.to_string(),
            "[::1]:1: connection refused; 127.0.0.1:1: connection refused"
        );
        let none = Race::new([]).error().expect("there is nothing to try");
        assert_eq!(none.to_string(), "the host has no address");
    }
}
