//! The floor: what moving the same bytes over a bare socket takes. 32 bytes there, the
//! observation's bytes back, buffers used again and again, no message layer at all.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const REQUEST: usize = 32;

/// The asking side.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: &str, bytes: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; bytes] })
    }

    /// One exchange, and how long it took.
    pub fn exchange(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.stream.write_all(&[0; REQUEST])?;
        self.stream.read_exact(&mut self.buffer)?;
        Ok(start.elapsed())
    }
}

/// The answering side, in a thread for as long as the process lives; returns its address.
pub fn serve(bytes: usize) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::Builder::new().name("floor".to_owned()).spawn(move || {
        // Written once, so that it is memory of its own and not the system's one page of zeros.
        let buffer: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
        while let Ok((stream, _)) = listener.accept() {
            // The client has gone: the next one, if there is one.
            let _ = answer(stream, &buffer);
        }
    })?;
    Ok(address)
}

fn answer(mut stream: TcpStream, buffer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    loop {
        stream.read_exact(&mut request)?;
        stream.write_all(buffer)?;
    }
}
