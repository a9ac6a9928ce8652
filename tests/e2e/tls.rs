//! TLS of the application's own: robots and policies over TLS streams that it has opened, on each
//! async adapter, where what `ServerConfig::tls` and `Builder::tls` offer is not enough. The code
//! before the tests is all that an application needs for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chiral_driver::address::StreamAddress;
use chiral_driver::{PolicyClient, PolicyServer, Robot, RobotError, Runtime, ServerConfig};
use chiral_proto::sensors::{CameraFrame, Sensors};
use chiral_proto::{Action, CameraConfig, ProprioConfig, Rate};
use chiral_smol::Smol;
use chiral_tokio::{Tokio, monotonic_seconds};
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig as TlsServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector};
use smol::future::{or, zip};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The robot's side, with its certificate.
fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let config = TlsServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).expect("the key fits");
    TlsAcceptor::from(Arc::new(config))
}

/// The policy's side, with the certificates it trusts.
fn connector(trusted: impl IntoIterator<Item = CertificateDer<'static>>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Serves one connection of a listener.
async fn serve<R: Runtime>(
    server: &PolicyServer<R>,
    robot: impl Robot,
    listener: &R::Listener,
    acceptor: &TlsAcceptor,
) -> Result<(), Error> {
    let (socket, peer) = R::accept(listener).await?;
    let secure = acceptor.accept(socket).await?;
    server.serve_stream(secure, &peer, robot).await?;
    Ok(())
}

/// Connects to a robot that has a certificate for `localhost`.
async fn connect<R: Runtime>(
    address: SocketAddr,
    connector: &TlsConnector,
) -> Result<PolicyClient<R>, Error> {
    let socket = R::connect_tcp(address).await?;
    let secure = connector.connect(ServerName::try_from("localhost")?, socket).await?;
    Ok(PolicyClient::over_stream(secure).await?)
}

/// A robot that remembers its actions.
struct Arm {
    sensors: Sensors,
    applied: Mutex<Vec<Action>>,
}

impl Arm {
    fn new() -> Arc<Self> {
        let camera = CameraConfig::new("wrist_cam", [480, 640, 3]).depth([480, 640]);
        let joints = ProprioConfig::new("joint_pos", 7);
        let sensors = Sensors::with_clock([camera], [joints], monotonic_seconds).unwrap();
        let image: Vec<u8> = (0..480 * 640 * 3_u32).map(|at| (at * 7) as u8).collect();
        let depth: Vec<f32> = (0..480 * 640_u32).map(|at| at as f32 * 0.001).collect();
        let wrist = sensors.camera("wrist_cam").unwrap();
        wrist.publish(CameraFrame::new().image(image).depth(depth)).unwrap();
        Arc::new(Self { sensors, applied: Mutex::default() })
    }
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.applied.lock().unwrap().push(action);
        Ok(())
    }
}

async fn soon<R: Runtime, T>(future: impl Future<Output = T>) -> T {
    let late = async {
        R::timer(Instant::now() + Duration::from_secs(20)).await;
        panic!("still waiting after 20 s")
    };
    or(future, late).await
}

async fn a_round_trip_over_tls<R: Runtime>() {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = identity.signing_key.serialize_der().try_into().unwrap();
    let trusting = connector([identity.cert.der().clone()]);
    let acceptor = acceptor(identity.cert.into(), key);
    let any = StreamAddress::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
    let listener = R::listen(&any).await.unwrap();
    let StreamAddress::Tcp { host, port } = R::local_address(&listener).unwrap() else {
        panic!("it is a TCP socket");
    };
    let address = SocketAddr::new(host.parse().unwrap(), port);
    let server = PolicyServer::<R>::unbound(ServerConfig::default());
    let arm = Arm::new();

    // A client that does not trust the certificate cannot connect.
    let refusing = serve(&server, Arc::clone(&arm), &listener, &acceptor);
    let (nobody, refused) = zip(refusing, connect::<R>(address, &connector([]))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    assert!(nobody.is_err(), "nobody was served");

    let driving = async {
        let client = connect::<R>(address, &trusting).await.unwrap();
        client.reset().await.unwrap();
        let expected = arm.sensors.snapshot(0.0);
        let observation = client.observe().await.unwrap();
        assert_eq!(observation.cameras, expected.cameras);
        client.start_obs_stream(Rate::hz(50.0).unwrap()).unwrap();
        client.start_action_dispatch(Rate::hz(200.0).unwrap()).unwrap();
        client.put_chunk(&observation, (0_u8..20).map(|n| [f32::from(n); 7])).unwrap();
        for _ in 0..5 {
            assert_eq!(client.next_obs().await.unwrap().cameras, expected.cameras);
        }
        while client.stats().actions.count() < 20 {
            client.next_obs().await.unwrap();
        }
        client.reset().await.expect("what was sent before is applied by then");
        client.close().await;
        observation
    };
    let serving = serve(&server, Arc::clone(&arm), &listener, &acceptor);
    let (ended, observation) = zip(serving, driving).await;
    ended.expect("nobody else had the robot");
    let sent: Vec<Action> =
        (0_u8..20).map(|n| Action::from([f32::from(n); 7]).decided_on(&observation)).collect();
    assert_eq!(*arm.applied.lock().unwrap(), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_tokio() {
    soon::<Tokio, _>(Box::pin(a_round_trip_over_tls::<Tokio>())).await;
}

#[test]
fn on_smol() {
    smol::block_on(soon::<Smol, _>(a_round_trip_over_tls::<Smol>()));
}
