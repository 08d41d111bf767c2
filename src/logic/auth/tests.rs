//! etcd's rules for users and roles.

use bytes::Bytes;
use proptest::prelude::*;

use super::check::Access;
use super::{AuthCommand, AuthState};
use crate::model::auth::{AuthInfo, Permission, PermissionKind};
use crate::model::kv::{Op, TxnRequest};
use crate::model::refusal::Refusal;

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd { name: name.into(), password_hash: Some("h".into()) }
}

fn grant_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole { user: user.into(), role: role.into() }
}

fn permit(role: &str, kind: PermissionKind, key: &str, end: &str) -> AuthCommand {
    let (key, range_end) = (Bytes::from(key.to_owned()), Bytes::from(end.to_owned()));
    AuthCommand::RoleGrantPermission {
        role: role.into(),
        permission: Permission { kind, key, range_end },
    }
}

fn enabled() -> AuthState {
    let mut state = AuthState::default();
    for command in [
        user_add("root"),
        user_add("ann"),
        AuthCommand::RoleAdd { name: "app".into() },
        grant_role("root", "root"),
        grant_role("ann", "app"),
        permit("app", PermissionKind::ReadWrite, "a", "c"),
        permit("app", PermissionKind::Read, "c", "e"),
        AuthCommand::Enable,
    ] {
        state.apply(&command).unwrap();
    }
    state
}

fn ann(state: &AuthState) -> AuthInfo {
    AuthInfo { user: "ann".into(), revision: state.revision() }
}

#[test]
fn enabling_needs_root_with_its_role() {
    let mut state = AuthState::default();
    assert_eq!(state.apply(&AuthCommand::Enable), Err(Refusal::RootUserNotExist));
    state.apply(&user_add("root")).unwrap();
    assert_eq!(state.apply(&AuthCommand::Enable), Err(Refusal::RootRoleNotExist));
    state.apply(&grant_role("root", "root")).unwrap();
    let revision = state.revision();
    state.apply(&AuthCommand::Enable).unwrap();
    assert_eq!((state.is_enabled(), state.revision()), (true, revision));
    let root = || "root".to_owned();
    for command in [
        AuthCommand::UserDelete { name: root() },
        AuthCommand::RoleDelete { name: root() },
        AuthCommand::UserRevokeRole { user: root(), role: root() },
    ] {
        assert_eq!(state.apply(&command), Err(Refusal::InvalidAuthMgmt), "{command:?}");
    }
}

#[test]
fn permissions_of_several_grants_cover_a_range_together() {
    let state = enabled();
    let by = ann(&state);
    let check = |access, key: &str, end: &str| {
        state.check(&by, access, &Bytes::from(key.to_owned()), &Bytes::from(end.to_owned()))
    };
    assert_eq!(check(Access::Read, "a", "e"), Ok(()));
    assert_eq!(check(Access::Write, "b", ""), Ok(()));
    assert_eq!(check(Access::Write, "b", "d"), Err(Refusal::PermissionDenied));
    assert_eq!(check(Access::Read, "e", ""), Err(Refusal::PermissionDenied));
    assert_eq!(check(Access::Read, "a", "\0"), Err(Refusal::PermissionDenied));
}

#[test]
fn what_was_allowed_before_a_change_is_refused_after_it() {
    let mut state = enabled();
    let by = ann(&state);
    let txn = TxnRequest { success: vec![Op::put("a", "1")], ..TxnRequest::default() };
    assert_eq!(state.check_txn(&by, &txn), Ok(()));
    let revoke = AuthCommand::UserRevokeRole { user: "ann".into(), role: "app".into() };
    state.apply(&revoke).unwrap();
    assert_eq!(state.check_txn(&by, &txn), Err(Refusal::AuthOldRevision));
    assert_eq!(state.check_txn(&ann(&state), &txn), Err(Refusal::PermissionDenied));
    assert_eq!(state.check_txn(&AuthInfo::default(), &txn), Err(Refusal::UserEmpty));
    assert_eq!(state.apply(&revoke), Err(Refusal::RoleNotGranted));
}

#[test]
fn refusals_are_etcds() {
    let mut state = enabled();
    for (command, refusal) in [
        (user_add(""), Refusal::UserEmpty),
        (user_add("ann"), Refusal::UserAlreadyExists),
        (AuthCommand::RoleAdd { name: "app".into() }, Refusal::RoleAlreadyExists),
        (AuthCommand::RoleAdd { name: String::new() }, Refusal::RoleEmpty),
        (grant_role("bob", "app"), Refusal::UserNotFound),
        (grant_role("ann", "ops"), Refusal::RoleNotFound),
        (permit("ops", PermissionKind::Read, "a", ""), Refusal::RoleNotFound),
        (
            AuthCommand::RoleRevokePermission {
                role: "app".into(),
                key: "z".into(),
                range_end: Bytes::new(),
            },
            Refusal::PermissionNotGranted,
        ),
    ] {
        let before = state.clone();
        assert_eq!(state.apply(&command), Err(refusal), "{command:?}");
        assert_eq!(state, before, "a refusal changed something");
    }
    assert_eq!(state.check_admin(&ann(&state)), Err(Refusal::PermissionDenied));
}

proptest! {
    /// Over keys of one letter the cover of a range is the cover of each of its keys.
    #[test]
    fn a_range_is_covered_if_every_key_is(
        grants in prop::collection::vec((0..8_u8, 0..9_u8), 0..5), from in 0..8_u8, to in 1..9_u8
    ) {
        let letter = |number: u8| char::from(b'a' + number).to_string();
        let mut state = enabled();
        state.apply(&AuthCommand::RoleAdd { name: "r".into() }).unwrap();
        state.apply(&user_add("bob")).unwrap();
        state.apply(&grant_role("bob", "r")).unwrap();
        for (start, end) in grants.iter().filter(|(start, end)| start < end) {
            state.apply(&permit("r", PermissionKind::Read, &letter(*start), &letter(*end))).unwrap();
        }
        prop_assume!(from < to);
        let by = AuthInfo { user: "bob".into(), revision: state.revision() };
        let (key, end) = (Bytes::from(letter(from)), Bytes::from(letter(to)));
        let found = state.check(&by, Access::Read, &key, &end).is_ok();
        let truth = (from..to).all(|at| grants.iter().any(|(s, e)| *s <= at && at < *e));
        prop_assert_eq!(found, truth);
    }
}
