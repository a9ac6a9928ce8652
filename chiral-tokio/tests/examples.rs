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
    for _ in 0..10 {
        assert!(server.line().await.starts_with("joint targets: ["));
    }

    let moving = async {
        for _ in 0..50 {
            assert!(server.line().await.starts_with("joint targets: [0."));
        }
    };
    let mut policy = example("chunked_policy", &[&uri]);
    let (policy, ()) = soon(async { tokio::join!(policy.output(), moving) }).await;
    let policy = policy.unwrap();
    let said = String::from_utf8(policy.stdout).unwrap();
    assert!(policy.status.success(), "{said}");
    assert_eq!(said.matches("new plan at").count(), 20, "{said}");
}
