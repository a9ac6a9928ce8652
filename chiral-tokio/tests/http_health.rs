//! The example that shares its port with an HTTP health page.

mod support;

use chiral_tokio::PolicyClient;
use support::{Server, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the health page says.
async fn health(place: &str) -> String {
    let mut socket = TcpStream::connect(place).await.unwrap();
    // In two pieces, as a network may have it.
    socket.write_all(b"GET /hea").await.unwrap();
    socket.flush().await.unwrap();
    tokio::task::yield_now().await;
    socket.write_all(b"lthz HTTP/1.1\r\nHost: robot\r\n\r\n").await.unwrap();
    let mut page = String::new();
    soon(socket.read_to_string(&mut page)).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    page
}

#[tokio::test]
async fn one_port_serves_policies_and_a_health_page() {
    let mut server = Server::start("http_health").await;
    let place = server.place.clone();
    assert!(health(&place).await.ends_with("waiting for a policy\n"));

    let uri = format!("ws://{place}");
    let policy = soon(PolicyClient::connect(&uri)).await.unwrap();
    let observation = soon(policy.observe()).await.unwrap();
    assert_eq!(*observation["wrist_cam"].image.shape(), [480, 640, 3]);
    policy.send_action([0.5; 7]).unwrap();
    let targets = server.line_with("joint targets").await;
    assert_eq!(targets, "joint targets: [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]");

    let page = health(&place).await;
    assert!(page.contains("a policy is connected\n"), "{page}");
    assert!(page.contains("actions       1"), "{page}");
    soon(policy.observe()).await.expect("whoever asks for health disturbs nobody");

    soon(policy.close()).await;
    soon(async { while !health(&place).await.ends_with("waiting for a policy\n") {} }).await;
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_the_server_and_tells_its_policy() {
    let server = Server::start("http_health").await;
    let uri = format!("ws://{}", server.place);
    let policy = soon(PolicyClient::connect(&uri)).await.unwrap();
    soon(policy.observe()).await.unwrap();
    assert!(server.interrupt().await.success());
    let error = soon(policy.observe()).await.unwrap_err().to_string();
    assert!(error.contains("1001"), "{error}");
}
