//! The count of outbound packets, which "no packet leaves" is shown by, can itself fail.

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, output};

fn count(lab: &Lab) -> Result<u64, libtest_mimic::Failed> {
    let facts = lab.facts()?;
    facts["outboundPackets"].as_u64().ok_or_else(|| format!("no count in {facts}").into())
}

/// A packet for an address outside is counted; one for a host of the lab is not.
pub(crate) fn planted_packet() -> Outcome {
    let lab = Lab::up("three", true)?;
    let fetch = |url: &str| output(&mut lab.on("a1", &["holdfast", "probe", "fetch", url]));
    fetch("http://10.77.0.21:1/")?;
    fetch("http://10.244.7.7/")?;
    fetch("http://10.96.7.7/")?;
    let inside = count(&lab)?;
    ensure(inside == 0, || format!("{inside} packets inside of the lab counted as outbound"))?;
    // 192.0.2.0/24 is set aside for documentation; nobody has it.
    let answer = fetch("http://192.0.2.1/")?;
    ensure(!answer.status.success(), || "somebody answered at 192.0.2.1".into())?;
    eventually("the planted packet is counted", PATIENCE, || {
        let counted = count(&lab)?;
        ensure(counted > 0, || "still 0".into())
    })
}

/// After everything that was done to the shared lab, still no packet has left it.
pub(crate) fn none_in_all_this(lab: &Lab) -> Outcome {
    let counted = count(lab)?;
    ensure(counted == 0, || format!("{counted} packets left the lab"))
}
