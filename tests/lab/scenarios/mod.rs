//! The scenarios in the order they run; each name is the claim it proves.

mod access;
mod admission;
mod bad_bundles;
mod bad_hosts;
mod bad_tokens;
mod beside_docker;
mod certificates;
mod commit_modes;
mod containers;
mod custom;
mod etcd;
mod exit_codes;
mod full_disk;
mod import_kills;
mod interrupted;
mod kubernetes;
mod leaks;
mod masters;
mod network;
mod outbound;
mod pressure;
mod quorum;
mod recovery;
mod replaced;
mod replication;
mod reset;
mod scaling;
mod storage;
mod streams;
mod teardown;
mod transcript;
mod two_site;
mod web;
mod workloads;

use std::sync::{Arc, Mutex, OnceLock};

use libtest_mimic::{Failed, Trial};

use crate::harness::{Lab, Outcome};

/// The hosts of a lab of three masters.
pub(crate) const NODES: [&str; 3] = ["a1", "b1", "c1"];

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

/// The lab of two sites, which one scenario leaves to the next: seven hosts take long to
/// come up, and the next one ends with all of them dead.
#[derive(Clone, Debug, Default)]
struct TwoSites(Arc<Mutex<Option<Lab>>>);

impl TwoSites {
    fn take(&self) -> Result<Lab, Failed> {
        let left = self.0.lock().map_err(|_| "a scenario before panicked")?.take();
        left.map_or_else(|| Lab::up("two-site", false), Ok)
    }

    fn leave(&self, lab: Lab) -> Outcome {
        *self.0.lock().map_err(|_| "a scenario before panicked")? = Some(lab);
        Ok(())
    }
}

fn trial(name: &str, shared: &Shared, run: fn(&Lab) -> Outcome) -> Trial {
    let shared = shared.clone();
    Trial::test(name, move || run(shared.lab()?))
}

/// Everything, in order; the last one takes the shared lab down and looks for remains.
pub(crate) fn all() -> Vec<Trial> {
    let shared = Shared::default();
    let two_sites = TwoSites::default();
    let on = |name: &str, run: fn(&Lab) -> Outcome| trial(name, &shared, run);
    vec![
        on("t10_three_masters_are_ready_with_no_outbound_packet", masters::three_are_ready),
        on("t11_sample_answers_on_its_service_address_from_every_node", masters::sample_answers),
        on("t12_names_resolve_in_pods", masters::names_resolve),
        on("t20_kubectl_works_unmodified", kubernetes::kubectl_transcript),
        on("t21_own_verbs_work_without_kubectl", kubernetes::own_verbs),
        on("t23_the_page_tells_strangers_nothing_of_the_cluster", kubernetes::admin_page),
        on("t24_the_admin_page_does_in_a_browser_what_it_shows", web::in_a_browser),
        on("t25_pushed_image_is_pullable_from_all_masters", replication::pullable_from_all),
        on("t26_etcdctl_works_unmodified_on_all_three_masters", etcd::transcript),
        on("t22_second_import_moves_nothing", containers::second_import_moves_nothing),
        on("t27_stateful_set_starts_in_order_under_its_names", workloads::stateful_order_and_names),
        on("t28_stateful_pod_of_a_killed_host_never_runs_twice", workloads::stateful_host_killed),
        on("t29_daemon_runs_on_every_node", workloads::daemon_everywhere),
        on("t33_job_counts_right_through_a_killed_leader", workloads::job_counts_right),
        on("t34_cron_job_fires_in_its_time_zone", workloads::cron_job_fires),
        on("t35_rollouts_are_driven_by_kubectl", workloads::rollout_verbs),
        on("t36_secrets_stay_sealed_and_volumes_come_back", storage::secrets_and_volumes),
        on("t37_people_get_into_pods_through_every_master", streams::into_pods),
        on("t48_services_answer_from_outside_and_an_address_moves", network::from_outside),
        on("t49_network_policies_hold_between_pods_of_all_nodes", network::policies),
        on("t53_an_ingress_with_tls_loses_no_request_in_a_rollout", network::ingress),
        on("t54_kubectl_prints_what_kubernetes_prints", transcript::everything_served),
        on("t55_pods_that_come_and_go_leave_nothing_on_a_node", leaks::nothing_leaks),
        on(
            "t39_budgets_hold_drains_priorities_make_room_and_load_scales",
            scaling::budgets_priorities_and_load,
        ),
        on("t30_killed_agent_restarts_no_container", containers::killed_agent),
        on("t31_killed_daemon_restarts_no_container", containers::killed_daemon),
        on("t32_failing_container_is_restarted_with_back_off", containers::failing_container),
        on("t38_tokens_roles_and_the_audit_log_hold_on_every_node", access::tokens_and_roles),
        on("t46_pods_reach_the_api_as_themselves_on_every_master", admission::pods_call_the_api),
        on("t47_quotas_hold_through_every_master", admission::quotas_hold),
        on("t56_custom_kinds_live_on_every_master_and_outlive_a_leader", custom::definitions_live),
        on(
            "t59_certificates_are_renewed_while_everything_runs",
            certificates::renewed_while_serving,
        ),
        on("t40_leader_node_killed_loses_nothing", masters::leader_killed),
        on("t41_all_three_killed_lose_nothing", masters::all_killed),
        on(
            "t42_two_of_three_killed_says_so_everywhere_and_comes_back",
            quorum::two_of_three_killed,
        ),
        on("t43_silent_member_is_named", quorum::silent_member_is_named),
        on("t45_a_command_in_a_pod_outlives_a_leader", streams::outlive_a_leader),
        Trial::test("t50_bad_tokens_are_refused_and_change_nothing", bad_tokens::every_kind),
        Trial::test("t51_exit_codes_tell_unreachable_from_try_again", exit_codes::told_apart),
        Trial::test("t60_bad_bundles_are_refused_and_change_nothing", bad_bundles::all_doors),
        Trial::test("t61_bad_cluster_files_are_refused_at_once", bad_hosts::cluster_file),
        Trial::test("t62_unfit_hosts_are_refused_and_change_nothing", bad_hosts::unfit_hosts),
        Trial::test("t63_init_finishes_after_a_full_disk", full_disk::during_init),
        Trial::test("t64_import_finishes_after_a_full_disk", full_disk::during_import),
        Trial::test("t75_a_full_disk_evicts_and_space_brings_pods_back", pressure::a_full_disk),
        Trial::test("t65_hosts_own_docker_stays_untouched", beside_docker::untouched),
        Trial::test("t66_reset_leaves_the_host_as_it_was", reset::leaves_nothing),
        Trial::test("t67_planted_outbound_packet_is_counted", outbound::planted_packet),
        on("t68_a_lost_control_node_is_removed_and_its_name_joins_again", replaced::lost_for_good),
        Trial::test("t69_a_worker_follows_the_control_nodes", replaced::worker_follows),
        Trial::test("t74_daemon_reaches_a_node_that_joins", workloads::daemon_follows_a_join),
        on("t72_a_survivor_of_a_lost_majority_goes_on_as_a_new_generation", recovery::survivor),
        on("t73_a_snapshot_becomes_another_cluster_with_the_same_objects", recovery::restored),
        {
            let two_sites = two_sites.clone();
            Trial::test("t57_two_sites_bear_the_loss_of_a_center_and_take_it_back", move || {
                let lab = two_sites.take()?;
                two_site::a_center_is_lost_and_comes_back(&lab)?;
                two_sites.leave(lab)
            })
        },
        Trial::test("t58_the_remote_center_counts_as_the_commit_mode_says", move || {
            commit_modes::the_remote_center_counts_as_the_mode_says(&two_sites.take()?)
        }),
        Trial::test("t70_init_and_join_finish_after_kills", interrupted::init_and_join),
        Trial::test("t71_import_finishes_after_kills", import_kills::import_finishes),
        on("t80_no_packet_left_the_lab_in_all_this", outbound::none_in_all_this),
        {
            let shared = shared.clone();
            Trial::test("t90_down_leaves_nothing", move || teardown::down_leaves_nothing(&shared))
        },
        Trial::test("t91_down_after_a_crash_leaves_nothing", teardown::crashed_lab),
    ]
}
