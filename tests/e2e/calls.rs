//! Every call of the policy's side, against a served robot, over a loopback socket.

use std::sync::Arc;
use std::time::Duration;

use chiral_proto::{Action, Array, Rate};
use chiral_tests::{Entry, Recorder};
use chiral_tokio::{PolicyClient, PolicyServer};

/// A served robot and where it is.
async fn serve(robot: Arc<Recorder>) -> (PolicyServer, String) {
    let server = PolicyServer::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("ws://{}", server.local_addr().unwrap());
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(robot).await });
    (server, uri)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_gets_its_own_kind_of_answer() {
    let robot = Arc::new(Recorder::new(2, [48, 64]));
    let (server, uri) = serve(Arc::clone(&robot)).await;
    let client = PolicyClient::connect(&uri).await.unwrap();

    assert_eq!(client.metadata().await.unwrap().get("robot"), Some("recorder".into()));
    let reset = client.reset().await.unwrap();
    assert_eq!(reset.observation.extra.get("for"), Some("reset".into()));
    assert_eq!(reset.info.get("ok"), Some(true.into()));
    assert_eq!(*client.latest_obs().unwrap(), reset.observation);

    let observation = client.observe().await.unwrap();
    assert_eq!(*observation["cam_1"].image.shape(), [48, 64, 3]);
    let action = Action::new(Array::from_slice([2, 2], &[1_f32, 2.0, 3.0, 4.0]).unwrap());
    let step = client.step(action.clone()).await.unwrap();
    assert!((step.reward - 10.0).abs() < 1e-9);

    client.close().await;
    server.shutdown().await;
    let diary = robot.diary.lock().unwrap();
    let stamped = action.decided_on(&observation);
    assert!(
        matches!(&diary[..], [Entry::Connected, Entry::Reset, Entry::Applied(applied), Entry::Disconnected(_)] if *applied == stamped),
        "{diary:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_stream_while_actions_are_dispatched() {
    let robot = Arc::new(Recorder::new(2, [48, 64]));
    let (_server, uri) = serve(Arc::clone(&robot)).await;
    let client = PolicyClient::connect(&uri).await.unwrap();
    client.start_obs_stream(Rate::hz(100.0).unwrap()).unwrap();
    client.start_action_dispatch(Rate::hz(200.0).unwrap()).unwrap();
    let first = client.next_obs().await.unwrap();
    client.put_chunk(&first, (0_u8..20).map(|n| [f32::from(n)])).unwrap();
    for _ in 0..20 {
        client.next_obs().await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(5), async {
        while robot.diary.lock().unwrap().len() < 21 {
            client.next_obs().await.unwrap();
        }
    })
    .await
    .expect("all actions arrive");
    for (n, entry) in robot.diary.lock().unwrap()[1..].iter().enumerate() {
        let expected = Action::from([n as f32]).decided_on(&first);
        assert_eq!(*entry, Entry::Applied(expected));
    }
}
