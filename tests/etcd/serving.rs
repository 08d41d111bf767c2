//! Members that serve until standard input ends: for trying a client by hand.
//!
//! `HOLDFAST_ETCD_MEMBERS=3 cargo test --release --test etcd -- --ignored --nocapture serve`

use std::io::Read;

use crate::served::Served;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "serves until standard input ends"]
async fn serve() {
    let members = std::env::var("HOLDFAST_ETCD_MEMBERS").map_or(1, |text| text.parse().unwrap());
    let served = Served::group(members).await;
    let urls: Vec<String> = (0..members).map(|index| served.url_of(index)).collect();
    let dir = served.dir.path();
    println!(
        "export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={} CERTIFICATES={}",
        urls.join(","),
        dir.display()
    );
    for (name, file) in [("CACERT", "ca.crt"), ("CERT", "admin.crt"), ("KEY", "admin.key")] {
        println!("export ETCDCTL_{name}={}", dir.join(file).display());
    }
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.unwrap().unwrap();
}
