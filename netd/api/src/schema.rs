//! Shapes of values whose JSON form is text of its own, for the OpenAPI document.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{Macs, MasqueradePorts, PacketSpec};

/// An address with a prefix length.
pub struct Prefix;

/// A JSON schema for a type, by its name.
macro_rules! shapes {
    ($($type:ident: $schema:tt)+) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

shapes! {
    Prefix: {
        "type": "string",
        "format": "ip-prefix",
        "description": "An IPv4 or IPv6 address and the length of its prefix: `192.0.2.0/24`, `2001:db8::/64`.",
    }
    MasqueradePorts: {
        "type": "string",
        "pattern": "^[0-9]{1,5}-[0-9]{1,5}$",
        "description": "Outside ports of masquerade, both ends included: `FIRST-LAST`, from 1 to 65535.",
    }
    PacketSpec: {
        "type": "string",
        "description": "A packet in words: `tcp 10.0.0.5:1234 > 1.1.1.1:443`.",
    }
    Macs: {
        "oneOf": [
            { "type": "integer", "minimum": 1, "maximum": Macs::MOST },
            { "const": "any" },
        ],
        "description": "How many MACs an endpoint may hold, its own included.",
    }
}
