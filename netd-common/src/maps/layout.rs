//! The layouts of the pinned maps, as data: what `layout.lock` records and a test compares. A field that is
//! forgotten here, or is not there any more, does not compile. Says nothing about what a field means.

use core::fmt;

use super::fragment::{COUNTERS, Frag, FragKey, LINE, LINES, OWNERS, RECORDS, Ring, Waiting};
use super::{
    Called, CalledKey, DenyKey, FdbEntry, FdbKey, Float, Flow, FromKey, HostEntry, Learned, Limits,
    Mapping, Meter, Node, Port, Publish, PublishKey, Range, SegmentKey, SentKey, Source, Stat,
    Target, Uplink, Usage, name, size,
};
use crate::addr::{V4, V6};
use crate::flow::Timeouts;
use crate::tuple::Tuple;

/// A map of what is between two packets of one datagram, or of one second. It is pinned as well, so that a start of
/// the daemon cuts nothing in two, and made anew when the programs have it otherwise: what it knew of is lost then.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// Its name.
    pub name: &'static str,
    /// Bytes of a key, bytes of a value, entries.
    pub shape: (u32, u32, u32),
}

/// Bytes of a key and of a value, and entries.
const fn shape<K, V>(entries: u32) -> (u32, u32, u32) {
    (size_of::<K>() as u32, size_of::<V>() as u32, entries)
}

macro_rules! brief {
    ($($name:literal: $key:ty => $value:ty, $entries:expr;)+) => {
        /// All of them.
        pub const BRIEF: &[Brief] = &[$(Brief {
            name: $name,
            shape: shape::<$key, $value>($entries),
        },)+];
    };
}

brief! {
    "FRAG4": FragKey<V4> => Frag, RECORDS;
    "FRAG6": FragKey<V6> => Frag, RECORDS;
    "FRAG_RING4": u32 => Ring<V4>, OWNERS;
    "FRAG_RING6": u32 => Ring<V6>, OWNERS;
    "FRAG_WAIT": u32 => Waiting, LINES * LINE as u32;
    "FRAG_NEXT": u32 => u64, LINES;
    "FRAG_ID": u32 => u64, COUNTERS;
    "SWEPT": u32 => u64, 1;
    "ANSWERED": u32 => u64, size::PORT;
}

/// One pinned map.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// Its name.
    pub name: &'static str,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Types of both, as the code names them.
    pub types: (&'static str, &'static str),
}

/// A field of a type.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// A type that is in a pinned map.
#[derive(Clone, Copy, Debug)]
pub struct Type {
    /// As the code names it.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// All of its fields, in order.
    pub fields: &'static [Field],
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = self.types;
        write!(
            f,
            "map {}: {key} ({}) -> {value} ({})",
            self.name, self.key, self.value
        )
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {} ({}):", self.name, self.size)?;
        for field in self.fields {
            write!(f, " {} {}+{}", field.name, field.offset, field.size)?;
        }
        Ok(())
    }
}

/// The size of what a function leads to, which is never called.
const fn size_behind<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! maps {
    ($($name:ident: $key:ty => $value:ty;)+) => {
        /// All pinned maps.
        pub const MAPS: &[Pinned] = &[$(Pinned {
            name: name::$name,
            key: size_of::<$key>() as u32,
            value: size_of::<$value>() as u32,
            types: (stringify!($key), stringify!($value)),
        },)+];
    };
}

macro_rules! types {
    ($($ty:ty: $pattern:ident { $($field:ident)+ };)+) => {
        /// The types in them that have fields.
        pub const TYPES: &[Type] = &[$({
            // Does not compile unless these are all.
            let _: fn(&$ty) = |$pattern { $($field: _),+ }| ();
            Type {
                name: stringify!($ty),
                size: size_of::<$ty>(),
                fields: &[$(Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($ty, $field),
                    size: size_behind(|v: &$ty| &v.$field),
                },)+],
            }
        },)+];
    };
}

maps! {
    PORT: u32 => Port;
    FDB: FdbKey => FdbEntry;
    LEARNED: FdbKey => Learned;
    METER: u32 => Meter;
    AGED: u32 => u64;
    HOST4: V4 => HostEntry;
    HOST6: V6 => HostEntry;
    SEGMENT: SegmentKey => Target;
    FLOW4: Tuple<V4> => Flow<V4>;
    FLOW6: Tuple<V6> => Flow<V6>;
    MAP4: Tuple<V4> => Mapping<V4>;
    MAP6: Tuple<V6> => Mapping<V6>;
    SENT: SentKey => u32;
    USAGE: u32 => Usage;
    LIMITS: u32 => Limits;
    PUBLISH: PublishKey => Publish;
    FLOAT: V6 => Float;
    FROM: FromKey => u32;
    UPLINK: u32 => Uplink;
    LOCAL: V6 => u32;
    DENY: DenyKey => u32;
    NODE: u32 => Node;
    STATS: u32 => Stat;
    CALLED: CalledKey => Called;
}

types! {
    Port: Port {
        network endpoint flags mtu outer inner v4 v6 mac gateway_mac gateway_v4 gateway_v6 macs aging storm
        bits4 bits6 masq_min masq_max pad float4 float6
    };
    FdbKey: FdbKey { network mac pad };
    FdbEntry: FdbEntry { device kind endpoint };
    Learned: Learned { owner last_seen };
    Meter: Meter { gained lost flood };
    HostEntry: HostEntry { network endpoint device kind mac gateway_mac flags };
    SegmentKey: SegmentKey { network slot };
    Target: Target { device kind };
    Tuple<V4>: Tuple { src dst sport dport proto pad };
    Tuple<V6>: Tuple { src dst sport dport proto pad };
    Flow<V4>: Flow {
        to created last_seen packets bytes tag device endpoint dst_mac src_mac kind dir seen flags network
        publish client next ack
    };
    Flow<V6>: Flow {
        to created last_seen packets bytes tag device endpoint dst_mac src_mac kind dir seen flags network
        publish client next ack
    };
    Mapping<V4>: Mapping {
        other first tag device endpoint network dst_mac src_mac flags pad created idle word
    };
    Mapping<V6>: Mapping {
        other first tag device endpoint network dst_mac src_mac flags pad created idle word
    };
    SentKey: SentKey { life remote port pad };
    Usage: Usage { flows called };
    Limits: Limits { timeouts per_endpoint };
    Timeouts: Timeouts { tcp_transitory tcp_established tcp_closing tcp_closed udp echo };
    PublishKey: PublishKey { addr port proto pad };
    Publish: Publish { addr port mac gateway_mac limited pad device endpoint network number };
    Float: Float { addr mac gateway_mac device endpoint network uplink uplink_mac pad };
    FromKey: FromKey { prefix_len source };
    Source: Source { publish family addr };
    Uplink: Uplink { v4 v6 port_min port_max mtu };
    DenyKey: DenyKey { prefix_len addr };
    Node: Node { flags v4 v6 silent };
    Range: Range { min max };
    Stat: Stat { packets bytes };
    CalledKey: CalledKey { cookie addr port pad };
    Called: Called { addr port pad };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_map_is_here_and_every_type_of_theirs_without_a_hole() {
        assert!(MAPS.iter().map(|m| &m.name).eq(name::PINNED));
        let plain = ["u32", "u64", "V4", "V6"];
        for map in MAPS {
            for ty in [map.types.0, map.types.1] {
                let known = plain.contains(&ty) || TYPES.iter().any(|t| t.name == ty);
                assert!(known, "{map}: {ty} has no line");
            }
        }
        for ty in TYPES {
            let end = ty.fields.iter().fold(0, |end, field| {
                assert_eq!(field.offset, end, "{ty}");
                end + field.size
            });
            assert_eq!(end, ty.size, "{ty}");
        }
    }
}
