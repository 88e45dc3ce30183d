//! Files: plan, apply, export. What is to be done is worked out by `model::file`; here it is stored and
//! made real, or taken back as a whole.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netd_api::{Action, EventKind, Manifest, Plan, object};
use netd_common::addr::Mac;

use super::core::Core;
use super::error::{Result, ServiceError};
use super::events::News;
use super::network::default_mtu;
use super::reach::Reached;
use crate::apply::{Mode, Node};
use crate::datapath::Datapath;
use crate::model::file::{self, Ask, Outcome, Refusal};
use crate::model::network::Context;
use crate::model::{Change, Desired, Endpoint, Key, Netns, Object, publish};
use crate::net::{NetnsFile, inside, route};
use crate::plan::{Actual, Ended, Scope};

/// The node that is asked.
struct Asked<'a> {
    node: &'a mut Node,
    actual: &'a Actual,
    leaving: &'a mut Vec<(Netns, u32)>,
    publish_addresses: &'a [IpAddr],
}

impl From<ServiceError> for Refusal {
    fn from(e: ServiceError) -> Self {
        Self {
            line: e.line,
            fault: e.fault,
        }
    }
}

impl From<crate::net::NetError> for Refusal {
    fn from(e: crate::net::NetError) -> Self {
        ServiceError::from(e).into()
    }
}

impl Asked<'_> {
    fn datapath(&mut self) -> &mut Datapath {
        &mut self.node.datapath
    }
}

impl Ask for Asked<'_> {
    fn target(&mut self, target: &str) -> std::result::Result<Netns, Refusal> {
        let id = NetnsFile::open(target)?.id;
        super::attach::wait_for_leaving(&self.node.reaper, self.leaving, id);
        Ok(id)
    }

    fn is_free(&mut self, target: &str, device: &str) -> std::result::Result<bool, Refusal> {
        Ok(inside::is_free(&NetnsFile::open(target)?, device)?)
    }

    fn is_gone(&self, endpoint: &Endpoint) -> bool {
        !self.actual.devices.contains_key(&endpoint.device())
    }

    fn id(&mut self, desired: &Desired) -> std::result::Result<String, Refusal> {
        Ok(super::attach::free_id(desired)?)
    }

    fn mac(&mut self) -> std::result::Result<Mac, Refusal> {
        Ok(super::network::free_mac()?)
    }

    fn addresses(&mut self) -> std::result::Result<Vec<IpNet>, Refusal> {
        let all = route::addresses(&mut self.node.netlink)?;
        Ok(all.iter().map(|a| a.net).collect())
    }

    fn publish_addresses(&self) -> Vec<IpAddr> {
        self.publish_addresses.to_vec()
    }

    fn ports(
        &mut self,
        desired: &Desired,
        endpoint: &Endpoint,
        group: &[netd_api::PublishSpec],
    ) -> std::result::Result<Vec<netd_api::PublishSpec>, Refusal> {
        let free = |host: &netd_api::HostSpec| publish::taken_by(desired, host).is_none();
        let claimed = super::publish::claim_ports(self.datapath(), desired, endpoint, group, &free);
        Ok(claimed?)
    }
}

impl Core {
    /// What [`Core::apply_file`] would do. Nothing is changed.
    pub fn plan_file(&mut self, manifest: &Manifest) -> Result<Plan> {
        let outcome = self.work_out(manifest);
        self.release_claims();
        self.as_plan(manifest, &outcome?)
    }

    /// Gives a source what it asks for: all of it or, with a line that says why, nothing.
    pub fn apply_file(&mut self, manifest: &Manifest) -> Result<Plan> {
        let outcome = self.work_out(manifest).and_then(|outcome| {
            let plan = self.as_plan(manifest, &outcome)?;
            Ok((outcome, plan))
        });
        let (outcome, plan) = match outcome {
            Ok(both) => both,
            Err(e) => {
                self.release_claims();
                return Err(e);
            }
        };
        if plan.lines.is_empty() {
            self.release_claims();
            return Ok(plan);
        }
        self.carry_out(outcome)?;
        self.tell_applied(&plan);
        Ok(plan)
    }

    fn tell_applied(&self, plan: &Plan) {
        let count = |action| plan.lines.iter().filter(|l| l.action == action).count();
        let text = format!(
            "{} applied: {} created, {} changed, {} made anew, {} removed",
            plan.owner,
            count(Action::Create),
            count(Action::Change),
            count(Action::Remake),
            count(Action::Remove)
        );
        let news = News {
            owner: Some(plan.owner.clone()),
            ..News::new(EventKind::Applied, &plan.owner, text)
        };
        self.events.tell(&self.by, news);
    }

    /// What is there, or what one owner has, as what would ask for it.
    pub fn export(&self, owner: Option<&str>) -> Manifest {
        file::export(&self.desired, owner)
    }

    fn work_out(&mut self, manifest: &Manifest) -> Result<Outcome> {
        let occupied = self.occupied()?;
        let context = Context {
            node: &occupied,
            pools: &self.settings.pools,
            mtu: default_mtu(&self.uplinks),
            mac: super::network::free_mac()?,
        };
        let mut asked = Asked {
            node: &mut self.node,
            actual: &self.actual,
            leaving: &mut self.leaving,
            publish_addresses: &self.settings.publish_addresses,
        };
        file::outcome(&self.desired, manifest, &context, &mut asked).map_err(ServiceError::from)
    }

    fn as_plan(&self, manifest: &Manifest, outcome: &Outcome) -> Result<Plan> {
        let ended = Ended::of(&outcome.change, &self.desired);
        let flows = if ended.is_empty() {
            vec![]
        } else {
            let all = self.node.datapath.flows()?;
            let cut = all.iter().filter(|f| {
                ended.cuts(f.publish, f.endpoint, f.client) || f.is_by_floating(&ended.floating)
            });
            cut.map(|f| self.show_flow(f)).collect()
        };
        Ok(Plan {
            owner: file::owner_of(&manifest.name),
            lines: outcome.lines.clone(),
            left: outcome.left.clone(),
            flows,
        })
    }

    /// Stores the state after, and makes it real. The store comes first: should the daemon be killed in
    /// between, its next start finds the whole of the new state there and finishes it.
    pub(super) fn carry_out(&mut self, outcome: Outcome) -> Result<()> {
        let Outcome {
            after,
            first,
            change,
            ..
        } = outcome;
        let before = self.desired.clone();
        let leaving = self.devices_of(&change);
        self.store
            .commit(change.clone(), after.meta.next_number)
            .wait()
            .inspect_err(|_| self.release_claims())?;
        self.note_stored();
        self.desired.meta.next_number = after.meta.next_number;
        let back = self.desired.apply(&change);
        let there: BTreeSet<String> = self.actual.devices.keys().cloned().collect();
        let mut reached = Reached::default();
        let made = self
            .make_room(&before, &first)
            .and_then(|()| self.reach_inside(&before, &mut reached))
            .and_then(|()| self.settle(Scope::All, Mode::AllOrNothing));
        self.release_claims();
        if let Err(e) = made {
            return Err(self.take_back(back, &there, &reached, e));
        }
        self.tell_change(&change, &back);
        self.note_followed(&reached);
        self.leaving.extend(leaving);
        self.finish_up(&before, &change);
        Ok(())
    }

    /// Devices of the endpoints that a change removes.
    fn devices_of(&self, change: &Change) -> Vec<(Netns, u32)> {
        let of = |key: &Key| match key {
            Key::Endpoint(n) => self.desired.endpoints.get(n),
            Key::Network(_) | Key::Publish(_) | Key::Floating(_) => None,
        };
        let endpoints = change.remove.iter().filter_map(of);
        endpoints
            .map(|e| (e.netns, self.actual.ifindex(&e.device())))
            .filter(|(_, ifindex)| *ifindex != 0)
            .collect()
    }

    /// Takes away what is made anew, and waits until its devices are gone: their names are wanted.
    fn make_room(&mut self, before: &Desired, first: &Change) -> Result<()> {
        if first.remove.is_empty() {
            return Ok(());
        }
        let mut without = before.clone();
        without.apply(first);
        let wanted = std::mem::replace(&mut self.desired, without);
        let settled = self.settle(Scope::All, Mode::Onward);
        self.desired = wanted;
        self.node.reaper.wait();
        settled
    }

    /// Takes a change back that failed. `there`: the devices that were there before it.
    fn take_back(
        &mut self,
        mut back: Change,
        there: &BTreeSet<String>,
        reached: &Reached,
        why: ServiceError,
    ) -> ServiceError {
        self.unreach(reached);
        // What had to make room is made again; what was gone before stays gone.
        for object in &mut back.put {
            if let Object::Endpoint(e) = object
                && there.contains(&e.device())
                && !self.actual.devices.contains_key(&e.device())
            {
                e.made = false;
            }
        }
        self.desired.apply(&back);
        let why = self.store_back(back, why);
        self.node.reaper.wait();
        self.settle_onward(Scope::All);
        self.note_all_made();
        self.note_lost();
        self.refresh_locals();
        why
    }

    fn finish_up(&mut self, before: &Desired, change: &Change) {
        for key in &change.remove {
            if let Key::Endpoint(n) = key
                && let Some(old) = before.endpoints.get(n)
            {
                self.forget_neighbours(old);
            }
        }
        let new: Vec<Endpoint> = self
            .desired
            .endpoints
            .values()
            .filter(|e| !before.endpoints.contains_key(&e.number))
            .cloned()
            .collect();
        for endpoint in &new {
            self.forget_neighbours(endpoint);
            self.announce(endpoint);
        }
        let holder = |d: &Desired, n| d.floating.get(n).map(|f| f.endpoint);
        let floating = self.desired.floating.iter();
        let moved: Vec<IpAddr> = floating
            .filter(|(n, f)| holder(before, *n) != Some(f.endpoint))
            .map(|(_, f)| f.address)
            .collect();
        for address in moved {
            self.announce_floating(address);
        }
        self.note_all_made();
        self.refresh_locals();
        self.refresh_silent();
    }

    /// Endpoints that were just made and are whole.
    pub(super) fn note_all_made(&mut self) {
        let whole = |e: &&Endpoint| {
            let device = self.actual.devices.get(&e.device());
            !e.made && device.is_some_and(|d| d.configured)
        };
        let all = self.desired.endpoints.values().filter(whole);
        let new: BTreeSet<u32> = all.map(|e| e.number).collect();
        for number in new {
            self.note_made(number);
        }
    }

    /// Endpoints that are to be made and could not: they are gone, as if they had lost their devices later.
    /// They show as that, a file makes them anew, and nothing else waits for them.
    pub(super) fn note_lost(&mut self) {
        let lost = |e: &&Endpoint| !e.made && !self.actual.devices.contains_key(&e.device());
        let all = self.desired.endpoints.values().filter(lost);
        let lost: Vec<(u32, String)> = all.map(|e| (e.number, e.name.clone())).collect();
        if lost.is_empty() {
            return;
        }
        for (number, name) in lost {
            let text = format!("endpoint {name} could not be made: it is gone");
            self.tell(EventKind::Gone, object::endpoint(&name), text);
            self.note_made(number);
        }
        self.settle_onward(Scope::All);
    }
}
