//! Roles that have another name in the target: every place where a backup names a role is told by its new name before
//! anything else looks at it, so that preflight, restore and comparison know the new one alone.

mod archive;
mod statement;

use std::collections::{BTreeMap, BTreeSet};

use super::large_objects::LargeObject;
use super::properties::DatabaseProperties;
use crate::source::roles::Role;

/// New names of roles, by the names that the backup knows. One that isn't here keeps its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleNames(BTreeMap<String, String>);

impl FromIterator<(String, String)> for RoleNames {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(names: T) -> Self {
        Self(names.into_iter().filter(|(from, to)| from != to).collect())
    }
}

impl RoleNames {
    /// Whether every role keeps its name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of `role` in the target.
    #[must_use]
    pub fn of<'a>(&'a self, role: &'a str) -> &'a str {
        self.0.get(role).map_or(role, String::as_str)
    }

    /// Those that none of `roles` has: nothing would become of them.
    #[must_use]
    pub fn unknown_to(&self, roles: &[Role]) -> Vec<&str> {
        let known: BTreeSet<&str> = roles.iter().map(|role| role.name.as_str()).collect();
        self.0.keys().map(String::as_str).filter(|from| !known.contains(from)).collect()
    }

    /// Names roles anew. Where several become one, the first that had the name, or got it, says what the role is; and
    /// it is a member of what any of them was.
    #[must_use]
    pub fn of_roles(&self, roles: Vec<Role>) -> Vec<Role> {
        let (kept, moved): (Vec<Role>, Vec<Role>) =
            roles.into_iter().partition(|role| self.of(&role.name) == role.name);
        let mut renamed: Vec<Role> = Vec::new();
        for mut role in kept.into_iter().chain(moved) {
            // The server's own roles have their names everywhere: what gets another one is no longer such a role.
            role.predefined &= self.of(&role.name) == role.name;
            role.name = self.of(&role.name).to_owned();
            for membership in &mut role.member_of {
                membership.role = self.of(&membership.role).to_owned();
            }
            match renamed.iter_mut().find(|known| known.name == role.name) {
                None => renamed.push(role),
                Some(known) => known.member_of.append(&mut role.member_of),
            }
        }
        for role in &mut renamed {
            let mut known = BTreeSet::from([role.name.clone()]);
            role.member_of.retain(|membership| known.insert(membership.role.clone()));
        }
        renamed
    }

    /// Names owner and grantees anew.
    pub fn rename_in_large_object(&self, object: &mut LargeObject) {
        self.rename(&mut object.owner);
        let grantees = object.grants.iter_mut().flatten().filter_map(|grant| grant.grantee.as_mut());
        grantees.for_each(|grantee| self.rename(grantee));
    }

    /// Names owner, grantees and roles of settings anew.
    pub fn rename_in_properties(&self, properties: &mut DatabaseProperties) {
        let DatabaseProperties { owner, comment: _, settings, grants, connection_limit: _ } = properties;
        let grantees = grants.iter_mut().filter_map(|grant| grant.grantee.as_mut());
        let of_settings = settings.iter_mut().filter_map(|setting| setting.role.as_mut());
        owner.iter_mut().chain(grantees).chain(of_settings).for_each(|role| self.rename(role));
    }

    fn rename(&self, role: &mut String) {
        if let Some(to) = self.0.get(role) {
            role.clone_from(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::roles::Membership;
    use crate::source::target::{DatabaseGrant, DatabaseSetting, LargeObjectGrant};

    pub(super) fn names(pairs: &[(&str, &str)]) -> RoleNames {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    fn role(name: &str, login: bool, member_of: &[&str]) -> Role {
        let member =
            |role: &&str| Membership { role: (*role).into(), admin: false, inherit: true, set: true };
        Role {
            name: name.into(),
            predefined: name.starts_with("pg_"),
            superuser: false,
            inherit: true,
            create_role: false,
            create_database: false,
            login,
            replication: false,
            bypass_row_security: false,
            connection_limit: -1,
            valid_until: None,
            comment: None,
            settings: Vec::new(),
            member_of: member_of.iter().map(member).collect(),
        }
    }

    fn told(roles: &[Role]) -> Vec<(String, bool, bool, Vec<String>)> {
        let of = |it: &Role| {
            let groups = it.member_of.iter().map(|it| it.role.clone()).collect();
            (it.name.clone(), it.login, it.predefined, groups)
        };
        roles.iter().map(of).collect()
    }

    #[test]
    fn roles_that_become_one_are_one_and_no_member_of_itself() {
        let names = names(&[("app", "app2"), ("old", "app2"), ("pg_monitor", "watch"), ("same", "same")]);
        let all = vec![
            role("app", true, &["old", "all"]),
            role("old", false, &["pg_monitor"]),
            role("app2", false, &["x"]),
            role("pg_monitor", false, &[]),
            role("rest", true, &["app"]),
        ];
        assert_eq!(names.unknown_to(&all), [""; 0], "a role that keeps its name need not be there");
        assert_eq!(names.unknown_to(&all[..1]), ["old", "pg_monitor"]);
        let expected = [
            ("app2", false, vec!["x", "all", "watch"]),
            ("rest", true, vec!["app2"]),
            ("watch", false, vec![]),
        ];
        let expected: Vec<_> = (expected.into_iter())
            .map(|(name, login, groups)| {
                (name.to_owned(), login, false, groups.into_iter().map(str::to_owned).collect())
            })
            .collect();
        assert_eq!(told(&names.of_roles(all)), expected);
    }

    #[test]
    fn every_role_of_a_database_and_of_a_large_object_is_renamed() {
        let names = names(&[("app", "app2")]);
        let grant = |grantee: Option<&str>| DatabaseGrant {
            grantee: grantee.map(str::to_owned),
            privilege: "CONNECT".into(),
            grantable: false,
        };
        let of = |role: &str| DatabaseProperties {
            owner: Some(role.into()),
            settings: vec![DatabaseSetting {
                role: Some(role.into()),
                name: "a".into(),
                value: "app".into(),
            }],
            grants: vec![grant(Some(role)), grant(None), grant(Some("other"))],
            ..DatabaseProperties::server_defaults()
        };
        let mut properties = of("app");
        names.rename_in_properties(&mut properties);
        assert_eq!(properties, of("app2"), "and a setting's value is no role");
        let of = |role: &str| LargeObject {
            oid: 7,
            owner: role.into(),
            grants: Some(vec![LargeObjectGrant {
                grantee: Some(role.into()),
                privilege: "SELECT".into(),
                grantable: true,
            }]),
            comment: Some("app".into()),
        };
        let mut object = of("app");
        names.rename_in_large_object(&mut object);
        assert_eq!(object, of("app2"));
    }
}
