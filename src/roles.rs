//! Pools by what they are for: `primary`, `replica`, `reporting`.
//!
//! Code asks for a role, and one place in the program says which servers have it; as with the roles of Ruby on Rails.
//!
//! ```
//! use millpond::{Balanced, ErrorKind, Pool, roles::Roles};
//!
//! // Stand-ins: a connection is the name of its server.
//! # fn open(name: &'static str) -> millpond::Builder<impl millpond::Manager<Connection = &'static str>> {
//! #     Pool::builder(move || Ok::<_, std::io::Error>(name)).name(name)
//! # }
//! let replicas = Balanced::builder().member("a", open("replica").build()?).member("b", open("replica").build()?).build()?;
//! let db = Roles::builder()
//!     .role("primary", open("primary").build()?)
//!     .role("replica", replicas)
//!     .alias("reporting", "replica") // until it has a server of its own
//!     .build()?;
//!
//! assert_eq!(db.role("reporting")?.with(|conn| *conn)?, "replica");
//! assert_eq!(db.default_role().with(|conn| *conn)?, "primary", "the first one, where nobody says otherwise");
//!
//! let error = db.role("reprots").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Config);
//! assert_eq!(error.to_string(), r#"there is no role "reprots", but "primary", "replica", "reporting""#);
//! # Ok::<(), millpond::Error>(())
//! ```

use crate::{Balanced, Error, ErrorKind, HealthReport, Manager, Pool};
use std::fmt;
use std::sync::Arc;

/// Pools by their roles: see the [module](self). A handle, cheap to clone.
pub struct Roles<M: Manager> {
    inner: Arc<Inner<M>>,
}

struct Inner<M: Manager> {
    /// In the order in which they were added.
    roles: Vec<(String, Balanced<M>)>,
    aliases: Vec<(String, String)>,
    default: Balanced<M>,
}

/// Which servers have which role, made by [`Roles::builder`]. Nothing is checked before [`build`](Self::build).
#[must_use = "a builder does nothing until it builds"]
pub struct RolesBuilder<M: Manager> {
    roles: Vec<(String, Balanced<M>)>,
    aliases: Vec<(String, String)>,
    default: Option<String>,
}

impl<M: Manager> Roles<M> {
    /// The roles.
    pub fn builder() -> RolesBuilder<M> {
        RolesBuilder { roles: Vec::new(), aliases: Vec::new(), default: None }
    }

    /// The pools that have this role, or the one that it is another name for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if there is no such role, with those there are.
    pub fn role(&self, name: &str) -> Result<&Balanced<M>, Error> {
        find(&self.inner.roles, &self.inner.aliases, name).ok_or_else(|| {
            let known: Vec<_> = self.names().map(|name| format!("{name:?}")).collect();
            Error::plain(ErrorKind::Config, format!("there is no role {name:?}, but {}", known.join(", ")))
        })
    }

    /// The pools of the default role.
    #[must_use]
    pub fn default_role(&self) -> &Balanced<M> {
        &self.inner.default
    }

    /// All names, in the order in which they were added; first the roles, then the other names for them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let Inner { roles, aliases, .. } = &*self.inner;
        roles.iter().map(|(name, _)| name.as_str()).chain(aliases.iter().map(|(name, _)| name.as_str()))
    }

    /// How all pools do, the worst first. One with several roles is in it once.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        HealthReport::of(self.pools())
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool<M>> {
        self.inner.roles.iter().flat_map(|(_, pools)| pools.pools())
    }
}

fn find<'a, M: Manager>(
    roles: &'a [(String, Balanced<M>)],
    aliases: &[(String, String)],
    name: &str,
) -> Option<&'a Balanced<M>> {
    let name = aliases.iter().find(|(alias, _)| alias == name).map_or(name, |(_, role)| role);
    roles.iter().find(|(role, _)| role == name).map(|(_, pools)| pools)
}

impl<M: Manager> RolesBuilder<M> {
    /// A role, and who has it: a pool, or several that are [balanced](Balanced).
    pub fn role(mut self, name: impl Into<String>, pools: impl Into<Balanced<M>>) -> Self {
        self.roles.push((name.into(), pools.into()));
        self
    }

    /// Another name for a role.
    pub fn alias(mut self, name: impl Into<String>, role: impl Into<String>) -> Self {
        self.aliases.push((name.into(), role.into()));
        self
    }

    /// The role for those who do not say which. Default: the one that was added first.
    pub fn default_role(mut self, name: impl Into<String>) -> Self {
        self.default = Some(name.into());
        self
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] with everything that is wrong: no role, a name that is given twice, an alias or a default that names
    /// no role.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, roles::Roles};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).build_lazy()?;
    /// let error = Roles::builder().role("primary", pool).alias("reporting", "replica").build().unwrap_err();
    /// assert!(error.to_string().contains(r#"the alias "reporting" is for "replica", which is no role"#));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn build(self) -> Result<Roles<M>, Error> {
        let problems = self.problems();
        let Self { roles, aliases, default } = self;
        let default = match &default {
            Some(name) => find(&roles, &aliases, name).cloned(),
            None => roles.first().map(|(_, pools)| pools.clone()),
        };
        match default {
            Some(default) if problems.is_empty() => Ok(Roles { inner: Arc::new(Inner { roles, aliases, default }) }),
            _ => Err(Error::config(&problems)),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_role = |name: &str| self.roles.iter().any(|(role, _)| role == name);
        if self.roles.is_empty() {
            problems.push("there is no role".to_owned());
        }
        let names = self.roles.iter().map(|(name, _)| name).chain(self.aliases.iter().map(|(name, _)| name));
        let mut seen = Vec::new();
        for name in names {
            if seen.contains(&name) {
                problems.push(format!("the name {name:?} is given twice"));
            }
            seen.push(name);
        }
        for (alias, role) in self.aliases.iter().filter(|(_, role)| !is_role(role)) {
            problems.push(format!("the alias {alias:?} is for {role:?}, which is no role"));
        }
        if let Some(name) = self.default.as_deref().filter(|name| find(&self.roles, &self.aliases, name).is_none()) {
            problems.push(format!("default_role is {name:?}, which is no role"));
        }
        problems
    }
}

impl<M: Manager> Clone for Roles<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M: Manager> fmt::Debug for Roles<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { roles, aliases, .. } = &*self.inner;
        f.debug_struct("Roles").field("roles", roles).field("aliases", aliases).finish_non_exhaustive()
    }
}

impl<M: Manager> fmt::Debug for RolesBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { roles, aliases, default } = self;
        let mut debug = f.debug_struct("RolesBuilder");
        debug.field("roles", roles).field("aliases", aliases).field("default_role", default).finish()
    }
}
