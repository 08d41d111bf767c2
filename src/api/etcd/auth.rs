//! The Auth service: users, roles, permissions, tokens.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::errors::{refused, status};
use super::messages::authpb;
use super::messages::etcdserverpb as pb;
use super::messages::etcdserverpb::auth_server::Auth;
use crate::model::auth::{AuthChange, Permission, PermissionKind};
use crate::model::refusal::Refusal;

/// The service over the store.
#[derive(Debug)]
pub(super) struct AuthService(pub(super) Arc<Backend>);

fn permission(given: authpb::Permission) -> Result<Permission, Status> {
    use authpb::permission::Type;
    let unknown = |_| refused(Refusal::PermissionNotGiven);
    let kind = match Type::try_from(given.perm_type).map_err(unknown)? {
        Type::Read => PermissionKind::Read,
        Type::Write => PermissionKind::Write,
        Type::Readwrite => PermissionKind::ReadWrite,
    };
    Ok(Permission { kind, key: given.key, range_end: given.range_end })
}

fn described(permission: Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission {
        perm_type: kind.into(),
        key: permission.key,
        range_end: permission.range_end,
    }
}

/// Methods that make one change and answer with nothing but a header.
macro_rules! changes {
    ($($method:ident: $request:ident => $response:ident, |$given:ident| $change:expr;)*) => {
        $(async fn $method(
            &self,
            request: Request<pb::$request>,
        ) -> Result<Response<pb::$response>, Status> {
            let caller = self.0.caller(&request).await?;
            let $given = request.into_inner();
            self.0.store.auth.auth_change(&caller, $change).await.map_err(status)?;
            Ok(Response::new(pb::$response { header: self.0.header() }))
        })*
    };
}

impl AuthService {
    changes! {
        enable: AuthEnableRequest => AuthEnableResponse, |_given| AuthChange::Enable;
        disable: AuthDisableRequest => AuthDisableResponse, |_given| AuthChange::Disable;
        add_user: AuthUserAddRequest => AuthUserAddResponse, |given| AuthChange::UserAdd {
            name: given.name,
            password: (!given.options.unwrap_or_default().no_password).then_some(given.password),
        };
        delete_user: AuthUserDeleteRequest => AuthUserDeleteResponse, |given|
            AuthChange::UserDelete { name: given.name };
        change_password: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse, |given|
            AuthChange::UserChangePassword { name: given.name, password: given.password };
        grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse, |given|
            AuthChange::UserGrantRole { user: given.user, role: given.role };
        revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse, |given|
            AuthChange::UserRevokeRole { user: given.name, role: given.role };
        add_role: AuthRoleAddRequest => AuthRoleAddResponse, |given|
            AuthChange::RoleAdd { name: given.name };
        delete_role: AuthRoleDeleteRequest => AuthRoleDeleteResponse, |given|
            AuthChange::RoleDelete { name: given.role };
        grant_permission: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse, |given|
            AuthChange::RoleGrantPermission {
                role: given.name,
                permission: permission(
                    given.perm.ok_or_else(|| refused(Refusal::PermissionNotGiven))?,
                )?,
            };
        revoke_permission: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse,
            |given| AuthChange::RoleRevokePermission {
                role: given.role,
                key: given.key,
                range_end: given.range_end,
            };
    }
}

/// The trait's methods that only pass on.
macro_rules! passed_on {
    ($($method:ident => $own:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            $(async fn $method(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                self.$own(request).await
            })*
        }
    };
}

passed_on! {
    auth_enable => enable: AuthEnableRequest => AuthEnableResponse;
    auth_disable => disable: AuthDisableRequest => AuthDisableResponse;
    auth_status => status: AuthStatusRequest => AuthStatusResponse;
    authenticate => token: AuthenticateRequest => AuthenticateResponse;
    user_add => add_user: AuthUserAddRequest => AuthUserAddResponse;
    user_get => user: AuthUserGetRequest => AuthUserGetResponse;
    user_list => users: AuthUserListRequest => AuthUserListResponse;
    user_delete => delete_user: AuthUserDeleteRequest => AuthUserDeleteResponse;
    user_change_password => change_password:
        AuthUserChangePasswordRequest => AuthUserChangePasswordResponse;
    user_grant_role => grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse;
    user_revoke_role => revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse;
    role_add => add_role: AuthRoleAddRequest => AuthRoleAddResponse;
    role_get => role: AuthRoleGetRequest => AuthRoleGetResponse;
    role_list => roles: AuthRoleListRequest => AuthRoleListResponse;
    role_delete => delete_role: AuthRoleDeleteRequest => AuthRoleDeleteResponse;
    role_grant_permission => grant_permission:
        AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse;
    role_revoke_permission => revoke_permission:
        AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse;
}

impl AuthService {
    async fn status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let now = self.0.store.auth.auth_status(&caller).await.map_err(status)?;
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.0.header(),
            enabled: now.enabled,
            auth_revision: now.auth_revision,
        }))
    }

    async fn token(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.0.store.auth.authenticate(&name, &password).await.map_err(status)?;
        Ok(Response::new(pb::AuthenticateResponse { header: self.0.header(), token }))
    }

    async fn user(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let name = request.into_inner().name;
        let roles = self.0.store.auth.user(&caller, &name).await.map_err(status)?;
        Ok(Response::new(pb::AuthUserGetResponse { header: self.0.header(), roles }))
    }

    async fn users(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let users = self.0.store.auth.users(&caller).await.map_err(status)?;
        Ok(Response::new(pb::AuthUserListResponse { header: self.0.header(), users }))
    }

    async fn role(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let name = request.into_inner().role;
        let permissions = self.0.store.auth.role(&caller, &name).await.map_err(status)?;
        let perm = permissions.into_iter().map(described).collect();
        Ok(Response::new(pb::AuthRoleGetResponse { header: self.0.header(), perm }))
    }

    async fn roles(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let roles = self.0.store.auth.roles(&caller).await.map_err(status)?;
        Ok(Response::new(pb::AuthRoleListResponse { header: self.0.header(), roles }))
    }
}
