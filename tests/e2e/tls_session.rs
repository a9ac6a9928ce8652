//! TLS without sockets: the bytes of two sessions, split, cut and changed on the way.

use std::io::IoSlice;

use chiral_driver::TlsError;
use chiral_driver::tls::{Pending, Received, TlsSession};
use chiral_tests::certificates::Identity;

/// One end of a connection, and what became of it.
struct Side {
    session: TlsSession,
    received: Received,
    pending: Pending,
    plaintext: Vec<u8>,
    /// `Ok` is an orderly end.
    end: Option<Result<(), TlsError>>,
}

impl Side {
    fn new(session: TlsSession) -> Self {
        let (received, pending) = (Received::default(), Pending::default());
        Self { session, received, pending, plaintext: Vec::new(), end: None }
    }

    /// Takes in bytes of the stream; none is its end.
    fn receive(&mut self, bytes: &[u8]) {
        if self.end.is_some() {
            return;
        }
        self.received.read_buf()[..bytes.len()].copy_from_slice(bytes);
        self.received.bytes_read(bytes.len());
        let mut room = [0; 1000];
        loop {
            match self.session.read(&mut self.received, &mut room) {
                Ok(None) => break,
                Ok(Some(0)) => self.end = Some(Ok(())),
                Ok(Some(count)) => {
                    self.plaintext.extend_from_slice(&room[..count]);
                    continue;
                }
                Err(error) => self.end = Some(Err(error)),
            }
            break;
        }
        self.session.take_messages(&mut self.pending);
    }

    /// Encrypts some of the bytes, and returns how many.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let slices =
            [IoSlice::new(&bytes[..bytes.len() / 2]), IoSlice::new(&bytes[bytes.len() / 2..])];
        self.session.write(&slices, &mut self.pending).expect("the session goes on")
    }

    /// What is to be sent.
    fn transmit(&mut self) -> Vec<u8> {
        let bytes = self.pending.transmit().to_vec();
        self.pending.bytes_written(bytes.len());
        bytes
    }
}

fn pair(identity: &Identity) -> [Side; 2] {
    let client = identity.pinned().session("127.0.0.1").expect("it begins");
    let server = identity.server().session().expect("it begins");
    [Side::new(client), Side::new(server)]
}

/// Carries everything to the other end, in pieces of at most so many bytes.
fn carry([client, server]: &mut [Side; 2], piece: usize) {
    loop {
        let (to_server, to_client) = (client.transmit(), server.transmit());
        if to_server.is_empty() && to_client.is_empty() {
            return;
        }
        to_server.chunks(piece).for_each(|bytes| server.receive(bytes));
        to_client.chunks(piece).for_each(|bytes| client.receive(bytes));
    }
}

#[test]
fn bytes_in_any_pieces_give_the_same_plaintext() {
    let identity = Identity::self_signed();
    let image: Vec<u8> = (0..300_000_u32).map(|at| (at * 7) as u8).collect();
    for piece in [1, 7, 1000, 4096] {
        let mut ends = pair(&identity);
        // Before the handshake: it leaves behind it.
        assert_eq!(ends[0].write(b"a request"), 9);
        carry(&mut ends, piece);
        assert_eq!(ends[1].plaintext, b"a request");
        let mut written = 0;
        while written < image.len() {
            let count = ends[1].write(&image[written..]);
            assert!((1..=128 << 10).contains(&count), "{count}");
            assert!(ends[1].pending.transmit().len() < 130 << 10, "no more is encrypted at once");
            written += count;
            carry(&mut ends, piece);
        }
        assert!(ends[0].plaintext == image, "in pieces of {piece} bytes");
        let server = &mut ends[1];
        server.session.close(&mut server.pending);
        carry(&mut ends, piece);
        assert_eq!(ends[0].end, Some(Ok(())));
        ends[0].receive(&[]);
        assert_eq!(ends[0].end, Some(Ok(())), "the stream may end behind it");
    }
}

#[test]
fn a_cut_at_any_byte_is_told_from_an_orderly_end() {
    let identity = Identity::self_signed();
    let mut cut_at = 0;
    loop {
        let mut ends = pair(&identity);
        ends[0].write(b"a request");
        let [client, server] = &mut ends;
        let (mut left, mut has_answered) = (cut_at, false);
        loop {
            let to_server = client.transmit();
            to_server.chunks(4096).for_each(|bytes| server.receive(bytes));
            if server.plaintext == b"a request" && !has_answered {
                has_answered = true;
                server.write(b"an answer");
                server.session.close(&mut server.pending);
            }
            let mut to_client = server.transmit();
            let is_cut = to_client.len() > left;
            to_client.truncate(left);
            left -= to_client.len();
            to_client.chunks(4096).for_each(|bytes| client.receive(bytes));
            if is_cut || client.end.is_some() {
                break;
            }
        }
        let was_told = client.end.clone();
        client.receive(&[]);
        match client.end.clone().expect("it has ended") {
            Ok(()) => {
                assert_eq!(was_told, Some(Ok(())), "by the server");
                assert_eq!(client.plaintext, b"an answer");
                break;
            }
            Err(TlsError::EndOfHandshake) => assert_eq!(client.plaintext, b""),
            Err(TlsError::Truncated) => {}
            Err(other) => panic!("cut behind {cut_at} bytes: {other}"),
        }
        cut_at += if cut_at < 500 { 23 } else { 5 };
    }
    assert!(cut_at > 500, "there was something to cut");
}

#[test]
fn bytes_that_were_changed_on_the_way_are_noticed() {
    let identity = Identity::self_signed();
    // In the length of the record, and in what is encrypted; the rest of its head says nothing.
    for at in [3, 5, 20] {
        let mut ends = pair(&identity);
        ends[0].write(b"a request");
        carry(&mut ends, 4096);
        let [client, server] = &mut ends;
        client.write(b"an action");
        let mut bytes = client.transmit();
        bytes[at] ^= 1;
        server.receive(&bytes);
        server.receive(&[]);
        assert!(matches!(server.end, Some(Err(_))), "byte {at}: {:?}", server.end);
        assert_eq!(server.plaintext, b"a request");
    }
}
