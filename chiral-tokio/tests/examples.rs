//! The examples do what they say.

mod support;

use support::{Server, example, soon};

#[tokio::test]
async fn the_client_and_the_chunked_policy_drive_the_server() {
    let mut server = Server::start("server").await;
    let uri = server.place.clone();

    let client = soon(example("client", &[&uri]).output()).await.unwrap();
    let said = String::from_utf8(client.stdout).unwrap();
    assert!(client.status.success(), "{said}");
    assert_eq!(said.matches("the first pixel is [").count(), 10, "{said}");
    // The robot applies nothing after the end: the last one may have come too late.
    for _ in 0..9 {
        server.line_with("joint targets: [").await;
    }
    server.line_with("holding still: the peer closed the connection").await;

    let moving = async {
        for _ in 0..50 {
            server.line_with("joint targets: [0.").await;
        }
    };
    let mut policy = example("chunked_policy", &[&uri]);
    let (policy, ()) = soon(async { tokio::join!(policy.output(), moving) }).await;
    let policy = policy.unwrap();
    let said = String::from_utf8(policy.stdout).unwrap();
    assert!(policy.status.success(), "{said}");
    assert_eq!(said.matches("new plan at").count(), 20, "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_the_server_and_tells_its_policy() {
    let mut server = Server::start("server").await;
    let policy = soon(chiral_tokio::PolicyClient::connect(&server.place)).await.unwrap();
    policy.send_action([0.5; 7]).unwrap();
    server.line_with("joint targets: [0.5").await;
    assert!(server.interrupt().await.success());
    let error = soon(policy.observe()).await.unwrap_err().to_string();
    assert!(error.contains("1001"), "{error}");
}

#[tokio::test]
async fn an_action_of_another_shape_does_not_reach_the_robot() {
    let mut server = Server::start("server").await;
    let policy = soon(chiral_tokio::PolicyClient::connect(&server.place)).await.unwrap();
    policy.send_action([0.1; 6]).unwrap();
    soon(policy.observe()).await.unwrap();
    policy.send_action([0.2; 7]).unwrap();
    server.line_with("joint targets: [0.2").await;
}
