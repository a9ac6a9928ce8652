//! Every call of the policy's side, against a served robot, over a loopback socket.

use chiral_proto::{Action, Array, Rate};
use chiral_tests::{Entry, Recorder, Served};
use chiral_tokio::PolicyClient;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_gets_its_own_kind_of_answer() {
    let Served { robot, server, uri, .. } = Served::new(Recorder::new(2, [48, 64])).await;
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
    let stepped = Entry::Stepped(action.decided_on(&observation));
    let diary = robot.diary();
    assert_eq!(diary[..3], [Entry::Connected, Entry::Reset, stepped]);
    assert!(matches!(diary[3..], [Entry::Disconnected(_)]), "{diary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_stream_while_actions_are_dispatched() {
    let Served { robot, uri, .. } = Served::new(Recorder::new(2, [48, 64])).await;
    let client = PolicyClient::connect(&uri).await.unwrap();
    client.start_obs_stream(Rate::hz(100.0).unwrap()).unwrap();
    client.start_action_dispatch(Rate::hz(200.0).unwrap()).unwrap();
    let first = client.next_obs().await.unwrap();
    client.put_chunk(&first, (0_u8..20).map(|n| [f32::from(n)])).unwrap();
    for _ in 0..20 {
        client.next_obs().await.unwrap();
    }
    robot.until(20, |entry| matches!(entry, Entry::Applied(_))).await;
    for (n, (_, action)) in robot.applied().into_iter().enumerate() {
        assert_eq!(action, Action::from([n as f32]).decided_on(&first));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_action_before_the_end_arrives() {
    let Served { robot, uri, .. } = Served::new(Recorder::small()).await;
    for round in 0..40 {
        let client = PolicyClient::connect(&uri).await.unwrap();
        client.put_action([99.0]).unwrap(); // waits for a dispatch that is never started
        for n in 0..3 {
            client.send_action([(3 * round + n) as f32]).unwrap();
        }
        if round % 2 == 0 {
            client.close().await;
        } else {
            drop(client);
        }
    }
    robot.until_gone(40).await;
    let applied: Vec<f32> = robot.applied().iter().map(|(_, action)| action.to_f32()[0]).collect();
    assert_eq!(applied, (0..120).map(|n| n as f32).collect::<Vec<_>>());
}
