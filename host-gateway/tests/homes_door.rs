//! What one gateway may say to another: only under its own name, and only for its own VMs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod core_support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use core_support::{World, tenant};
use mooring_gateway::api::admin_router;
use mooring_gateway::core::Core;
use mooring_gateway::core::listen::Port;
use mooring_gateway::gateway::Gateway;
use mooring_gateway::homes::door::Door;
use mooring_gateway::homes::hail::{Answer, Hail, VERSION, What, hear_soon, say};
use mooring_gateway::homes::roster::Rosters;
use mooring_gateway::homes::settings::PeerConfig;
use mooring_gateway::homes::tls::Tls;
use mooring_store::realm::Channel;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A certificate authority.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), pem)
    }

    /// What the gateway called `name` has, when it trusts `trusted`.
    fn gateway(&self, dir: &Path, name: &str, listen: SocketAddr, trusted: &Authority) -> Tls {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let file = |what: &str, text: &str| {
            let path = dir.join(format!("{name}-{listen}.{what}").replace(':', "-"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let (ca, cert) = (file("ca", &trusted.1), file("crt", &certificate.pem()));
        let key = file("key", &key.serialize_pem());
        let (name, address) = (name.to_owned(), listen.to_string());
        Tls::read(&PeerConfig { listen, address, name, ca, cert, key }).unwrap()
    }
}

async fn hail(tls: &Tls, to: SocketAddr, hail: &Hail) -> Result<Answer, std::io::Error> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("a.test").unwrap();
    let mut stream = TlsConnector::from(tls.client.clone()).connect(name, stream).await?;
    say(&mut stream, hail).await?;
    hear_soon(&mut stream).await
}

async fn open(core: &Arc<Core>, tls: &Tls, address: SocketAddr) {
    let gateway = Gateway::new(core.clone()).await.unwrap();
    let rosters = Rosters::new("a.test", 3);
    rosters.set_core(core);
    core.set_elsewhere(rosters.clone());
    let (s3, admin) = (gateway.s3(Vec::new()), admin_router(gateway));
    Door { core: core.clone(), rosters, s3, admin, epoch: 3 }.open(address, tls).await.unwrap();
}

#[tokio::test]
async fn a_gateway_speaks_for_its_own_vms_under_its_own_name() {
    let world = World::new().await;
    let core = world.core.clone();
    core.realm()
        .vm_attach_at(&tenant("acme"), &"here".parse().unwrap(), Channel::Cid(7), Some("a.test"))
        .await
        .unwrap();
    core.realm()
        .vm_attach_at(&tenant("acme"), &"there".parse().unwrap(), Channel::Cid(7), Some("b.test"))
        .await
        .unwrap();
    let (ours, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    open(&core, &ours.gateway(dir.path(), "a.test", address, &ours), address).await;
    let b = ours.gateway(dir.path(), "b.test", address, &ours);
    let vm = |gateway: &str, vm: &str, epoch| Hail {
        version: VERSION,
        gateway: gateway.to_owned(),
        epoch,
        what: What::Vm { tenant: tenant("acme"), vm: vm.parse().unwrap(), port: Port::Frames },
    };
    assert_eq!(hail(&b, address, &vm("b.test", "there", 3)).await.unwrap(), Answer::Welcome);
    let refused = async |tls: &Tls, words: Hail| match hail(tls, address, &words).await.unwrap() {
        Answer::Refused(why) => why,
        Answer::Welcome => panic!("welcome: {words:?}"),
    };
    assert!(refused(&b, vm("b.test", "here", 3)).await.contains("not attached at gateway b.test"));
    assert!(refused(&b, vm("a.test", "here", 3)).await.contains("does not have the name"));
    assert!(refused(&b, vm("b.test", "nobody", 3)).await.contains("nobody"));
    assert!(refused(&b, Hail { version: 9, ..vm("b.test", "there", 3) }).await.contains("version 9"));
    // A certificate of another authority, in both directions.
    let stranger = Authority::new();
    let theirs = stranger.gateway(dir.path(), "b.test", "127.0.0.1:2".parse().unwrap(), &ours);
    assert!(hail(&theirs, address, &vm("b.test", "there", 3)).await.is_err());
    let trusting = ours.gateway(dir.path(), "b.test", "127.0.0.1:3".parse().unwrap(), &stranger);
    assert!(hail(&trusting, address, &vm("b.test", "there", 3)).await.is_err());
    assert!(core.standing().serves());
    // Whoever knows of a later home is believed: this one serves no more.
    assert!(refused(&b, vm("b.test", "there", 4)).await.contains("home no more"));
    assert!(!core.standing().serves());
    core.shutdown().await;
}
