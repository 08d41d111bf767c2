//! What `holdfast dr status` says of problems and of the next loss.

use crate::model::commit_mode::{CommitMode, Footing};
use crate::model::dr_status::{CanaryView, CenterView, LossView, Rpo};

/// A canary that is older tells of trouble: it is written every second.
const CANARY_OLD_MS: i64 = 15_000;

/// What was gathered.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) primary: &'a str,
    pub(super) centers: Vec<CenterView>,
    pub(super) mode: CommitMode,
    pub(super) footing: Footing,
    pub(super) has_leader: bool,
    pub(super) silent_ms: u64,
    pub(super) canary: Option<&'a CanaryView>,
    pub(super) rpo: Rpo,
    pub(super) has_remote: bool,
}

impl Facts<'_> {
    /// Whether those who answer without this center make a majority of all voters.
    fn has_majority_without(&self, center: &str) -> bool {
        let voters = || {
            let of = self.centers.iter();
            of.flat_map(|of| of.members.iter().filter(|one| one.voter).map(move |one| (of, one)))
        };
        let left = voters().filter(|(of, one)| of.name != center && one.answers).count();
        left > voters().count() / 2
    }
}

/// Why the exit code is 2.
pub(super) fn problems(facts: &Facts<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    if !facts.has_leader {
        problems.push(format!(
            "No leader answers this node, for {} s: what it says is the newest that it has.",
            facts.silent_ms / 1_000
        ));
    }
    if facts.mode != CommitMode::Majority && !facts.mode.waits_for_remote(facts.footing) {
        problems.push(
            "The city answers alone (fallen back): what the remote center lacks would be lost \
             with the city. It counts again after it has kept up for 10 s."
                .into(),
        );
    }
    for center in facts.has_leader.then_some(&facts.centers).into_iter().flatten() {
        let silent: Vec<&str> =
            center.members.iter().filter(|one| !one.answers).map(|one| &*one.name).collect();
        if !silent.is_empty() {
            problems.push(format!(
                "In center {} {} not answer.",
                center.name,
                match silent.len() {
                    1 => format!("{} does", silent[0]),
                    _ => format!("{} do", silent.join(", ")),
                }
            ));
        }
    }
    if facts.has_remote {
        match facts.canary {
            None => problems.push("There is no canary yet.".into()),
            Some(canary) if canary.age_ms > CANARY_OLD_MS => problems.push(format!(
                "The newest canary is {} s old; one is written every second.",
                canary.age_ms / 1_000
            )),
            Some(_) => {}
        }
        if let Rpo::Unknown { reason } = &facts.rpo {
            problems.push(format!("What a failover would lose is unknown: {reason}."));
        }
    }
    problems
}

/// What the loss of each center, and of the whole first site, would cost now.
pub(super) fn next_loss(facts: &Facts<'_>) -> Vec<LossView> {
    let mut losses = Vec::new();
    let primary = facts.centers.iter().filter(|center| center.site == facts.primary).count();
    for center in &facts.centers {
        let majority = facts.has_majority_without(&center.name);
        let of_primary = center.site == facts.primary;
        let costs = match (of_primary, majority) {
            (true, _) if primary < 2 => continue,
            (true, true) => "nothing is lost; writes go on within about 5 s".to_owned(),
            (_, false) => {
                "no majority would be left: nothing is written until a center is back, or until \
                 `holdfast store recover`"
                    .to_owned()
            }
            (false, true) => match facts.mode {
                CommitMode::MaxProtection => {
                    "nothing is lost; writes stop until it is back or the mode is changed".into()
                }
                CommitMode::RemoteSync if facts.footing == Footing::Synchronous => {
                    "nothing is lost; writes wait for up to 7 s, then go on without it".into()
                }
                CommitMode::RemoteSync | CommitMode::Majority => {
                    "nothing is lost; writes go on".into()
                }
            },
        };
        losses.push(LossView { of: format!("center {}", center.name), costs });
    }
    if facts.has_remote {
        let costs = format!("a forced failover would lose {}", facts.rpo.in_words());
        losses.push(LossView { of: format!("site {}", facts.primary), costs });
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dr_status::MemberView;

    fn center(name: &str, site: &str, votes: &[bool], answers: bool) -> CenterView {
        let member = |(number, voter): (usize, &bool)| MemberView {
            name: format!("{name}{number}"),
            voter: *voter,
            answers,
            lag: None,
        };
        CenterView {
            name: name.into(),
            site: site.into(),
            members: votes.iter().enumerate().map(member).collect(),
            lag: None,
        }
    }

    fn facts(mode: CommitMode, footing: Footing, a_answers: bool) -> Facts<'static> {
        Facts {
            primary: "city",
            centers: vec![
                center("a", "city", &[true, true], a_answers),
                center("b", "city", &[true, true], true),
                center("c", "far", &[true, false, false], true),
            ],
            mode,
            footing,
            has_leader: true,
            silent_ms: 0,
            canary: None,
            rpo: Rpo::Bounded { at_most_ms: 2_500, entries: Some(7), reason: "it lags".into() },
            has_remote: true,
        }
    }

    fn costs(facts: &Facts<'_>, of: &str) -> String {
        let losses = next_loss(facts);
        losses.into_iter().find(|loss| loss.of == of).unwrap().costs
    }

    #[test]
    fn the_next_loss_is_told_by_who_is_left() {
        let well = facts(CommitMode::RemoteSync, Footing::Synchronous, true);
        assert!(costs(&well, "center a").contains("writes go on within"));
        assert!(costs(&well, "center c").contains("wait for up to 7 s"));
        assert!(costs(&well, "site city").contains("the last 2.5 s, 7 entries (it lags)"));
        let without_a = facts(CommitMode::RemoteSync, Footing::Synchronous, false);
        assert!(costs(&without_a, "center b").contains("no majority"));
        let strict = facts(CommitMode::MaxProtection, Footing::Synchronous, true);
        assert!(costs(&strict, "center c").contains("writes stop"));
    }

    #[test]
    fn problems_name_what_is_wrong() {
        let canary = CanaryView {
            number: 1,
            written: jiff::Timestamp::UNIX_EPOCH,
            by: "a1".into(),
            age_ms: 900,
        };
        let mut now = facts(CommitMode::RemoteSync, Footing::Synchronous, true);
        now.canary = Some(&canary);
        assert_eq!(problems(&now), Vec::<String>::new());
        now.footing = Footing::FallenBack;
        assert!(problems(&now)[0].contains("fallen back"));
        now.has_leader = false;
        now.silent_ms = 9_000;
        assert!(problems(&now)[0].contains("for 9 s"));
        let silent = facts(CommitMode::Majority, Footing::FallenBack, false);
        assert!(problems(&silent)[0].contains("a0, a1 do not answer"), "{:?}", problems(&silent));
    }
}
