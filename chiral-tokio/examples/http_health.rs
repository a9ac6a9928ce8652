//! One port for the robot and for an HTTP health page: what a load balancer, a dashboard or a
//! container's probe asks for, and policies beside it. `curl localhost:8765/healthz` answers;
//! whatever asks for another page is taken for a policy. Connections are accepted here, and served
//! by [`PolicyServer::serve_stream`].
//!
//! `cargo run --example http_health`

use std::time::Duration;

use chiral_tokio::proto::sensors::Sensors;
use chiral_tokio::proto::{
    Action, ActionSpec, CameraConfig, ConnectionError, ProprioConfig, server,
};
use chiral_tokio::{
    PolicyServer, Robot, RobotError, ServerConfig, Stream, Watchdog, monotonic_seconds,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Arm {
    sensors: Sensors,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        println!("joint targets: {:?}", action.to_array::<7>()?);
        Ok(())
    }

    async fn on_watchdog(&self, silent_for: Duration) {
        println!("holding still: no action for {silent_for:.1?}");
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        println!("holding still: {reason}");
    }
}

/// Looks at what a connection asks for, without taking it off the socket.
async fn asks_for_health(socket: &TcpStream) -> std::io::Result<bool> {
    const ASKED: &[u8] = b"GET /healthz";
    let mut start = [0; ASKED.len()];
    loop {
        let count = socket.peek(&mut start).await?;
        let differs = start[..count] != ASKED[..count];
        if differs || count == 0 || count == ASKED.len() {
            return Ok(!differs && count > 0);
        }
        // A part of it; the rest is under way.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn answer_health(mut socket: TcpStream, server: &PolicyServer) -> std::io::Result<()> {
    let mut request = BufReader::new(&mut socket).lines();
    while request.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let page = match server.stats() {
        Some(stats) => format!("a policy is connected\n{stats}\n"),
        None => "waiting for a policy\n".to_owned(),
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close";
    let response = format!("{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    socket.write_all(response.as_bytes()).await?;
    socket.shutdown().await
}

async fn receive(
    socket: TcpStream,
    peer: &str,
    server: &PolicyServer,
    arm: Arm,
) -> Result<(), Error> {
    if timeout(PATIENCE, asks_for_health(&socket)).await?? {
        timeout(PATIENCE, answer_health(socket, server)).await??;
    } else {
        server.serve_stream(Stream::tcp(socket)?, peer, arm).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let camera = CameraConfig::new("wrist_cam", [480, 640, 3]);
    let joints = ProprioConfig::new("joint_pos", 7);
    let arm = Arm { sensors: Sensors::with_clock([camera], [joints], monotonic_seconds)? };
    let config = ServerConfig {
        machine: server::Config { action_spec: ActionSpec::vector(7), ..Default::default() },
        watchdog: Watchdog::After(Duration::from_millis(500)),
        ..ServerConfig::default()
    };
    let server = PolicyServer::unbound(config);

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8765".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("serving at {}", listener.local_addr()?);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => accepted?,
            interrupted = &mut interrupted => {
                interrupted?;
                server.shutdown().await;
                return Ok(());
            }
        };
        let (server, arm) = (server.clone(), arm.clone());
        tokio::spawn(async move {
            if let Err(error) = receive(socket, &peer.to_string(), &server, arm).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}
