//! Functions that the verifier checks on their own, once for each program, whoever calls them and with
//! whatever it knows ("global functions", kernel commit 51c39bb1d5d1 "bpf: Introduce function-by-function
//! verification"). What is in a function of ours otherwise is walked again for each way that leads to a call.
//!
//! They take the context and numbers, and return a number of which the caller's verifier knows nothing: what
//! else they read and leave is in `Work`.

use aya_ebpf::bindings::__sk_buff;

use netd_common::addr::{V4, V6};

use crate::skb::Skb;
use crate::{flows, mapping, sockets};

/// A function for each family.
macro_rules! global {
    ($($(#[$doc:meta])* $v4:ident, $v6:ident: $module:ident::$function:ident;)+) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $v4(ctx: *mut __sk_buff) -> u64 {
            $module::$function::<V4>(Skb::new(ctx))
        }

        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $v6(ctx: *mut __sk_buff) -> u64 {
            $module::$function::<V6>(Skb::new(ctx))
        }
    )+};
}

global! {
    /// Makes the flow that `Work::wish` asks for.
    netd_begin4, netd_begin6: flows::make;
    /// Finds or makes a mapping, with the traits that `Work::held` has.
    netd_map4, netd_map6: mapping::find_or_make;
    /// Whether the node holds the outside socket that `Work::key` leads to.
    netd_held4, netd_held6: sockets::is_held;
}
