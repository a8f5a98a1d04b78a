//! Many grants, as an installation would have them: some tenants, each sharing prefixes with others.

use mooring_policy::action::ActionSet;
use mooring_policy::grant::{Delegation, Grant};
use mooring_policy::ids::{GrantId, TenantId};
use mooring_policy::resource::Prefix;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_policy::time::Timestamp;

/// How many tenants there are.
const TENANTS: u64 = 500;

/// Grants and the sequence they were drawn from.
pub struct Population {
    /// The grants.
    pub grants: Vec<Grant>,
    /// The sequence.
    pub random: SeededRandom,
}

impl Population {
    /// `count` grants between [`TENANTS`] tenants, on eight buckets each, two to four components deep.
    pub fn new(count: usize) -> Self {
        let random = SeededRandom::new(42);
        let grants = (0..count).map(|_| grant(&random)).collect();
        Self { grants, random }
    }
}

fn draw(random: &dyn Random, below: u64) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % below
}

fn tenant(number: u64) -> TenantId {
    name(&format!("tenant-{number:04}"))
}

/// Names made here are right by construction; an example has no better answer to one that is not than to stop.
fn name<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("{text} breaks the rule of its kind"))
}

fn grant(random: &SeededRandom) -> Grant {
    let owner = draw(random, TENANTS);
    let grantee = (owner + 1 + draw(random, TENANTS - 1)) % TENANTS;
    let depth = 2 + draw(random, 3);
    let components: Vec<String> = (0..depth).map(|_| format!("directory-{}", draw(random, 50))).collect();
    Grant {
        id: GrantId::random(random),
        owner: tenant(owner),
        grantee: tenant(grantee),
        bucket: name(&format!("bucket-{}", draw(random, 8))),
        prefix: name(&components.join("/")),
        actions: ActionSet::READ,
        not_before: Timestamp::ZERO,
        until: Some(Timestamp::from_secs(1_001 + draw(random, 1_000_000))),
        depth: 1,
        parent: None,
        name: name("shared-with-you"),
        note: String::new(),
    }
}

/// A grant to be passed on to a tenant of its own.
pub fn delegation(random: &SeededRandom) -> Delegation {
    let parent = grant(&SeededRandom::new(42));
    Delegation {
        id: GrantId::random(random),
        grantee: name("third-party"),
        prefix: parent.prefix.child(&name::<Prefix>("a")).unwrap_or_default(),
        actions: ActionSet::READ,
        not_before: Timestamp::ZERO,
        until: None,
        depth: 0,
        name: name("passed-on"),
        note: String::new(),
    }
}

/// The same grant with names of its own, as one read from a store has them.
pub fn unshared(grant: &Grant) -> Grant {
    Grant {
        owner: name(grant.owner.as_str()),
        grantee: name(grant.grantee.as_str()),
        bucket: name(grant.bucket.as_str()),
        prefix: name(&grant.prefix.to_string()),
        name: name(grant.name.as_str()),
        ..grant.clone()
    }
}
