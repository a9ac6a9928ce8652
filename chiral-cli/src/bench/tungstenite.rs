//! Tungstenite's message layer, on tokio: the yardstick for our own.

use std::io;
use std::sync::Arc;

use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use chiral_tokio::{PolicyClient, PolicyServer, ServerConfig, Stream};
use tokio::net::{TcpListener, TcpStream};

use crate::adapter::{Client, Host as _, Hosted, OnTasks, Robot, Tokio};

fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// A robot's server; it stops with its runtime.
pub(super) struct Server {
    address: String,
    _host: Tokio,
}

impl Server {
    pub(super) fn start<B: Robot>(robot: Arc<B>) -> io::Result<Self> {
        let host = Tokio::start()?;
        let listener = host.wait(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?.to_string();
        host.spawn(serve(listener, robot));
        Ok(Self { address, _host: host })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

async fn serve<B: Robot>(listener: TcpListener, robot: Arc<B>) {
    let server = PolicyServer::unbound(ServerConfig::default());
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = Stream::new(stream) else { continue };
        let config = Some(unlimited());
        if let Ok(stream) = async_tungstenite::accept_async_with_config(stream, config).await {
            let robot = OnTasks::<B, chiral_tokio::Tokio>::new(Arc::clone(&robot));
            server.serve_websocket(stream, robot).await;
        }
    }
}

/// Connects to a [`Server`].
pub(super) fn connect(address: &str) -> anyhow::Result<Client> {
    let host = Tokio::start()?;
    let client = host.wait(async {
        let stream = Stream::new(TcpStream::connect(address).await?)?;
        let uri = format!("ws://{address}");
        let config = Some(unlimited());
        let (stream, _) = async_tungstenite::client_async_with_config(uri, stream, config).await?;
        anyhow::Ok(PolicyClient::from_websocket(stream))
    })?;
    Ok(Client::Tokio(Hosted::new(host, client)))
}
