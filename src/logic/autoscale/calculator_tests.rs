//! The cases of upstream's calculator, and what must hold in all.

use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// Long started and ready, asking for a whole processor.
fn pod(name: usize, used: Option<i64>) -> ScaledPod {
    let long_ago: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let sample = |value| Sample { value, time: now(), window: SignedDuration::from_secs(12) };
    ScaledPod {
        name: format!("p{name}"),
        ignored: false,
        pending: false,
        started: Some(long_ago),
        ready: Some((true, long_ago)),
        request: Ok(1_000),
        sample: used.map(sample),
    }
}

fn pods(used: &[i64]) -> Vec<ScaledPod> {
    used.iter().enumerate().map(|(at, used)| pod(at, Some(*used))).collect()
}

fn of(pods: &[ScaledPod], replicas: i64, target: Target) -> Result<Proposal, String> {
    let (tolerances, now) = (Tolerances::default(), now());
    propose(&Situation { pods, replicas, is_cpu: true, tolerances, now }, target)
}

fn count(pods: &[ScaledPod], percent: i64) -> i64 {
    of(pods, pods.len() as i64, Target::Utilization(percent)).unwrap().replicas
}

#[test]
fn the_mean_is_brought_to_the_target() {
    assert_eq!(count(&pods(&[300, 500, 700]), 30), 5);
    assert_eq!(count(&pods(&[100, 300, 500, 250, 250]), 50), 3);
    // Within a tenth nothing is done.
    assert_eq!(count(&pods(&[1_010, 1_030, 1_020]), 100), 3);
    let found = of(&pods(&[300, 500]), 2, Target::Utilization(30)).unwrap();
    assert_eq!((found.utilization, found.average), (Some(40), 400));
    let raw = of(&pods(&[300, 500]), 2, Target::AverageValue(200)).unwrap();
    assert_eq!((raw.replicas, raw.utilization, raw.average), (4, None, 400));
}

#[test]
fn pods_that_were_not_measured_damp_both_ways() {
    // Up: the missing one counts as idle. 90 % over three is 60 % of four.
    let mut all = pods(&[900, 900]);
    all.push(pod(2, None));
    assert_eq!(count(&all, 30), 6);
    // It would turn the direction: nothing is done.
    let mut all = pods(&[500, 500]);
    all.extend([pod(2, None), pod(3, None)]);
    assert_eq!(count(&all, 40), 4);
    // Down: it counts as using all that it asks for.
    let mut all = pods(&[100, 100, 100]);
    all.push(pod(3, None));
    assert_eq!(count(&all, 50), 3);
}

#[test]
fn pods_that_start_do_not_make_more_of_themselves() {
    let mut all = pods(&[800, 800]);
    let mut young = pod(2, Some(1_000));
    young.started = Some("2026-01-01T00:59:00Z".parse().unwrap());
    young.ready = Some((true, "2026-01-01T00:59:55Z".parse().unwrap()));
    all.push(young.clone());
    // Its window began before it was ready: as if idle, 53 % of three is within a tenth.
    assert_eq!(count(&all, 50), 3);
    young.ready = Some((true, "2026-01-01T00:59:10Z".parse().unwrap()));
    all[2] = young.clone();
    assert_eq!(count(&all, 50), 6);
    young.pending = true;
    all[2] = young;
    assert_eq!(count(&all, 50), 3);
    // Memory knows no start.
    let (tolerances, now) = (Tolerances::default(), now());
    let mut all = pods(&[800, 800]);
    all[1].ready = None;
    let at = Situation { pods: &all, replicas: 2, is_cpu: false, tolerances, now };
    assert_eq!(propose(&at, Target::Utilization(40)).unwrap().replicas, 4);
}

#[test]
fn what_cannot_be_known_is_said() {
    let text = |pods: &[ScaledPod]| of(pods, 1, Target::Utilization(50)).unwrap_err();
    assert_eq!(text(&[]), "no pods returned by selector while calculating replica count");
    assert_eq!(
        text(&[pod(0, None)]),
        "did not receive metrics for targeted pods (pods might be unready)"
    );
    let mut one = pod(0, Some(5));
    one.request = Err("missing request for cpu in container c of Pod p0".into());
    assert_eq!(text(&[one.clone()]), "missing request for cpu in container c of Pod p0");
    // A value needs no request.
    assert!(of(&[one], 1, Target::AverageValue(5)).is_ok());
    let mut going = pods(&[900, 100]);
    going[0].ignored = true;
    assert_eq!(count(&going, 10), 2, "who goes does not count, and one in tolerance stays");
}

proptest! {
    #[test]
    fn measured_pods_are_brought_to_the_target_and_not_much_below(
        used in prop::collection::vec(1_i64..3_000, 1..12),
        percent in 1_i64..200,
    ) {
        let all = pods(&used);
        let found = of(&all, used.len() as i64, Target::Utilization(percent)).unwrap();
        let total: i64 = used.iter().sum();
        let now_at = total as f64 / used.len() as f64 / 10.0 / percent as f64;
        if found.replicas != used.len() as i64 {
            // The percentage is rounded down before it is compared, as upstream does.
            let then = |replicas: i64| total as f64 / replicas as f64 / 10.0;
            let off = used.len() as f64 / found.replicas as f64;
            prop_assert!(then(found.replicas) <= percent as f64 + off + 1e-9);
            prop_assert!(found.replicas <= 1 || then(found.replicas - 1) > percent as f64 - 1e-9);
        } else {
            prop_assert!(now_at < 1.2 + 1.0 / percent as f64, "{now_at}");
        }
    }

    #[test]
    fn what_is_not_known_never_reverses_what_is(
        used in prop::collection::vec(1_i64..3_000, 1..8),
        missing in 0_usize..5,
        unready in 0_usize..5,
        percent in 1_i64..200,
    ) {
        let mut all = pods(&used);
        let sure = of(&all, used.len() as i64, Target::Utilization(percent)).unwrap().replicas;
        all.extend((0..missing).map(|at| pod(100 + at, None)));
        for at in 0..unready {
            let mut pod = pod(200 + at, Some(5_000));
            pod.pending = true;
            all.push(pod);
        }
        let replicas = all.len() as i64;
        let found = of(&all, replicas, Target::Utilization(percent)).unwrap().replicas;
        if sure > used.len() as i64 {
            prop_assert!(found >= replicas, "{found} of {replicas}");
        }
        if sure < used.len() as i64 && missing > 0 {
            prop_assert!(found <= replicas, "{found} of {replicas}");
        }
    }
}
