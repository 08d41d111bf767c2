//! The scenarios in the order they run; each name is the claim it proves.

mod bad_input;
mod containers;
mod interrupted;
mod kubernetes;
mod masters;
mod recovery;
mod replaced;
mod teardown;

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Failed, Trial};

use crate::harness::{Lab, Outcome};

/// The three-master lab that most scenarios share, brought up by the first that asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<OnceLock<Result<Lab, String>>>);

impl Shared {
    pub(crate) fn lab(&self) -> Result<&Lab, Failed> {
        let made = self.0.get_or_init(|| {
            Lab::up("three", false).map_err(|error| error.message().unwrap_or_default().to_owned())
        });
        made.as_ref().map_err(|error| format!("the shared lab did not come up: {error}").into())
    }
}

fn trial(name: &str, shared: &Shared, run: fn(&Lab) -> Outcome) -> Trial {
    let shared = shared.clone();
    Trial::test(name, move || run(shared.lab()?))
}

/// Everything, in order; the last one takes the shared lab down and looks for remains.
pub(crate) fn all() -> Vec<Trial> {
    let shared = Shared::default();
    let on = |name: &str, run: fn(&Lab) -> Outcome| trial(name, &shared, run);
    vec![
        on("t10_three_masters_are_ready_with_no_outbound_packet", masters::three_are_ready),
        on("t11_sample_answers_on_its_service_address_from_every_node", masters::sample_answers),
        on("t12_names_resolve_in_pods", masters::names_resolve),
        on("t20_kubectl_works_unmodified", kubernetes::kubectl_transcript),
        on("t21_own_verbs_work_without_kubectl", kubernetes::own_verbs),
        on("t23_status_page_asks_for_the_password_and_shows_the_cluster", kubernetes::status_page),
        on("t22_second_import_moves_nothing", containers::second_import_moves_nothing),
        on("t30_killed_agent_restarts_no_container", containers::killed_agent),
        on("t31_killed_daemon_restarts_no_container", containers::killed_daemon),
        on("t32_failing_container_is_restarted_with_back_off", containers::failing_container),
        on("t40_leader_node_killed_loses_nothing", masters::leader_killed),
        on("t41_all_three_killed_lose_nothing", masters::all_killed),
        on("t50_foreign_unknown_and_garbage_tokens_refused", bad_input::tokens),
        Trial::test("t60_bad_bundles_are_refused_and_change_nothing", bad_input::bundles),
        Trial::test("t61_bad_hosts_are_refused_and_change_nothing", bad_input::hosts),
        on("t65_a_lost_control_node_is_removed_and_its_name_joins_again", replaced::lost_for_good),
        on("t66_a_survivor_of_a_lost_majority_goes_on_as_a_new_generation", recovery::survivor),
        on("t67_a_snapshot_becomes_another_cluster_with_the_same_objects", recovery::restored),
        Trial::test("t70_init_and_join_finish_after_kills", interrupted::init_and_join),
        {
            let shared = shared.clone();
            Trial::test("t90_down_leaves_nothing", move || teardown::down_leaves_nothing(&shared))
        },
        Trial::test("t91_down_after_a_crash_leaves_nothing", teardown::crashed_lab),
    ]
}
