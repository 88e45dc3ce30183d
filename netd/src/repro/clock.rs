//! Times in rows are of the clock of the node they were read on (`bpf_ktime_get_ns`: since its boot, without
//! sleep). On another host, or later, they are moved: everything is then as old as it was.

use bytemuck::Pod;
use netd_common::addr::{Addr, V4, V6};
use netd_common::maps::{Flow, Learned, Mapping, Meter, name};

use crate::datapath::Tables;

/// From one clock to another, both in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// When the rows were read.
    pub from: u64,
    /// Now, where they are to be used.
    pub to: u64,
}

/// A row cannot be as old as it was on a host that was booted after it would have been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this host was booted {} s ago, and the case has a row of {map} that was last used {} s ago: wait until \
     the host has been up that long",
    .up / 1_000_000_000, .age / 1_000_000_000
)]
pub struct TooYoung {
    map: &'static str,
    up: u64,
    age: u64,
}

impl Clock {
    /// Moves a time that tells how old something is. 0 stays: it is none.
    fn age(self, map: &'static str, time: &mut u64) -> Result<(), TooYoung> {
        if *time == 0 {
            return Ok(());
        }
        // A clock read before the rows may be a little behind them.
        let age = self.from.saturating_sub(*time);
        *time = self
            .to
            .checked_sub(age)
            .filter(|t| *t > 0)
            .ok_or(TooYoung {
                map,
                up: self.to,
                age,
            })?;
        Ok(())
    }

    /// Moves a time that only tells one thing from another, or may lie in the future.
    fn moved(self, time: u64) -> u64 {
        if time == 0 {
            return 0;
        }
        let later = i128::from(time) - i128::from(self.from) + i128::from(self.to);
        u64::try_from(later.max(1)).unwrap_or(u64::MAX)
    }

    fn flow<A: Addr>(self, map: &'static str, value: &mut [u8]) -> Result<(), TooYoung> {
        edit(value, |flow: &mut Flow<A>| {
            flow.created = self.moved(flow.created);
            self.age(map, &mut flow.last_seen)
        })
    }

    fn mapping<A: Addr>(self, map: &'static str, value: &mut [u8]) -> Result<(), TooYoung> {
        edit(value, |mapping: &mut Mapping<A>| {
            mapping.created = self.moved(mapping.created);
            self.age(map, &mut mapping.idle)
        })
    }

    /// Moves all times of these rows. Values of other sizes than the maps' stay as they are.
    pub fn shift(self, tables: &mut Tables) -> Result<(), TooYoung> {
        for (map, table) in tables {
            for (_, value) in &mut table.rows {
                match map.as_str() {
                    name::FLOW4 => self.flow::<V4>(name::FLOW4, value)?,
                    name::FLOW6 => self.flow::<V6>(name::FLOW6, value)?,
                    name::MAP4 => self.mapping::<V4>(name::MAP4, value)?,
                    name::MAP6 => self.mapping::<V6>(name::MAP6, value)?,
                    name::LEARNED => edit(value, |learned: &mut Learned| {
                        self.age(name::LEARNED, &mut learned.last_seen)
                    })?,
                    name::METER => edit(value, |meter: &mut Meter| {
                        meter.flood = self.moved(meter.flood);
                        Ok(())
                    })?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn edit<T: Pod>(
    value: &mut [u8],
    change: impl FnOnce(&mut T) -> Result<(), TooYoung>,
) -> Result<(), TooYoung> {
    let Ok(mut row) = bytemuck::try_pod_read_unaligned::<T>(value) else {
        return Ok(());
    };
    change(&mut row)?;
    value.copy_from_slice(bytemuck::bytes_of(&row));
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;
    use crate::datapath::MapRows;

    fn tables(last_seen: u64) -> Tables {
        let mut flow = Flow::<V6>::zeroed();
        (flow.created, flow.last_seen) = (1_000, last_seen);
        let mut meter = Meter::zeroed();
        meter.flood = 12_000;
        let row = |value: &[u8]| MapRows {
            free: None,
            rows: vec![(vec![1], value.to_vec())],
        };
        Tables::from([
            (name::FLOW6.into(), row(bytemuck::bytes_of(&flow))),
            (name::METER.into(), row(bytemuck::bytes_of(&meter))),
            (name::LOCAL.into(), row(&[7; 4])),
        ])
    }

    fn flow(tables: &Tables) -> Flow<V6> {
        bytemuck::pod_read_unaligned(&tables[name::FLOW6].rows[0].1)
    }

    #[test]
    fn rows_are_as_old_on_the_new_clock_as_they_were_on_the_old_one() {
        let mut there = tables(9_000);
        let clock = Clock {
            from: 10_000,
            to: 50_000,
        };
        clock.shift(&mut there).unwrap();
        assert_eq!(flow(&there).last_seen, 49_000);
        assert_eq!(flow(&there).created, 41_000);
        let meter: Meter = bytemuck::pod_read_unaligned(&there[name::METER].rows[0].1);
        assert_eq!(meter.flood, 52_000, "2,000 ahead, as it was");
        assert_eq!(there[name::LOCAL].rows[0].1, [7; 4]);
    }

    #[test]
    fn what_is_older_than_the_host_is_refused_but_not_for_its_beginning_alone() {
        let clock = Clock {
            from: 10_000,
            to: 2_000,
        };
        let mut there = tables(9_000);
        clock.shift(&mut there).unwrap();
        assert_eq!((flow(&there).created, flow(&there).last_seen), (1, 1_000));
        let e = clock.shift(&mut tables(5_000)).unwrap_err();
        assert!(e.to_string().contains("FLOW6"), "{e}");
    }
}
