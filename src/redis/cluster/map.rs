//! Who has what in a cluster, and whether the driver knows.

use super::ANY_NODE;
use ::redis::cluster::ClusterConnection;
use ::redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use ::redis::{ErrorKind, RedisError, RedisResult, Value};

/// Who has what: ranges of slots, in order, each with its primary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map(Vec<Part>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    first: u16,
    last: u16,
    host: String,
    port: u16,
    /// The node's own name.
    id: String,
}

impl Map {
    /// As any node that answers tells it.
    pub(super) fn of(connection: &mut ClusterConnection) -> RedisResult<Self> {
        let reply = connection.route_command(::redis::cmd("CLUSTER").arg("SLOTS"), ANY_NODE)?;
        let Value::Array(items) = reply else {
            return Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the answer to CLUSTER SLOTS is no list")));
        };
        let mut parts: Vec<_> = items.iter().filter_map(Part::of).collect();
        parts.sort_unstable();
        Ok(Self(parts))
    }

    /// Whether the driver goes by this map: whether it sends what belongs to each part to the right node.
    pub(super) fn is_known_to(&self, connection: &mut ClusterConnection) -> bool {
        // All of them, however the first one answers.
        self.0.iter().fold(true, |known, part| {
            let route =
                RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(Route::new(part.first, SlotAddr::Master)));
            let name = connection.route_command(::redis::cmd("CLUSTER").arg("MYID"), route);
            name.and_then(|name| Ok(::redis::from_redis_value::<String>(name)?)).is_ok_and(|name| name == part.id)
                && known
        })
    }

    /// Makes the driver read the map, which it only does when a node says that a key is elsewhere. So a primary is asked for a
    /// key that another one has. The sockets that the driver has are used further.
    pub(super) fn teach(&self, connection: &mut ClusterConnection) -> bool {
        // Any two: by this map both are alive.
        let asked = self.0.first();
        let owner =
            asked.and_then(|asked| self.0.iter().find(|part| (&part.host, part.port) != (&asked.host, asked.port)));
        let (Some(asked), Some(owner)) = (asked, owner) else { return false };
        let Some(key) = owner.some_key() else { return false };
        let there = SingleNodeRoutingInfo::ByAddress { host: asked.host.clone(), port: asked.port };
        connection.route_command(::redis::cmd("EXISTS").arg(key), RoutingInfo::SingleNode(there)).is_ok()
    }
}

impl Part {
    /// From `[first, last, [host, port, ...], ...]`.
    fn of(item: &Value) -> Option<Self> {
        let Value::Array(fields) = item else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &**fields else { return None };
        let [host, Value::Int(port), id, ..] = &**primary else { return None };
        let [host, id] = [host, id].map(|text| ::redis::from_redis_value_ref(text).unwrap_or_default());
        let [first, last, port] = [first, last, port].map(|&number| u16::try_from(number).ok());
        Some(Self { first: first?, last: last?, host, port: port?, id })
    }

    /// A key that belongs here.
    fn some_key(&self) -> Option<String> {
        let slots: Vec<_> = (self.first..=self.last).filter_map(Slot::new).collect();
        // A part of one slot is hit once in 16384 times; a part of an ordinary size at once.
        (0..1_000).map(|n| format!("millpond:{n}")).find(|key| slots.contains(&Slot::for_key(key)))
    }
}
