//! Tungstenite's message layer, on tokio, to compare our own with.

use std::sync::Arc;

use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use chiral_proto::server::Stats;
use chiral_tests::adapter::{Policy, Serving};
use chiral_tests::adapters::driven::Executor as _;
use chiral_tests::adapters::tokio::{ADAPTER, Workers};
use chiral_tokio::{PolicyClient, PolicyServer, ServerConfig, Stream, Tokio};
use tokio::net::{TcpListener, TcpStream};

use crate::robot::{OnTasks, SlowRobot};

fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// A robot's server; it ends with the process.
pub(crate) struct Server {
    address: String,
}

impl Server {
    pub(crate) fn start(robot: SlowRobot) -> std::io::Result<Self> {
        let listener = Workers::block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?.to_string();
        Workers::spawn(serve(listener, Arc::new(OnTasks::new(robot))));
        Ok(Self { address })
    }
}

impl Serving for Server {
    fn uri(&self) -> String {
        self.address.clone()
    }

    fn shut_down(&self) {}

    fn stats(&self) -> Option<Stats> {
        None
    }

    fn arm(&self) -> bool {
        false
    }

    fn stop_motion(&self) -> bool {
        false
    }
}

async fn serve(listener: TcpListener, robot: Arc<OnTasks<Tokio>>) {
    let server = PolicyServer::unbound(ServerConfig::default());
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = Stream::tcp(stream) else { continue };
        let config = Some(unlimited());
        if let Ok(stream) = async_tungstenite::accept_async_with_config(stream, config).await {
            // Why it ended is the policy's to say.
            let _ = server.serve_websocket(stream, Arc::clone(&robot)).await;
        }
    }
}

/// Connects to a [`Server`].
pub(crate) fn connect(address: &str) -> anyhow::Result<Arc<dyn Policy>> {
    let client = Workers::block_on(async {
        let stream = Stream::tcp(TcpStream::connect(address).await?)?;
        let uri = format!("ws://{address}");
        let config = Some(unlimited());
        let (stream, _) = async_tungstenite::client_async_with_config(uri, stream, config).await?;
        anyhow::Ok(PolicyClient::from_websocket(stream))
    })?;
    Ok(ADAPTER.policy(client))
}
