//! Random frames through the loaded programs. A block of cases begins with the flows of a prologue in
//! otherwise empty tables; each case is judged by what went in, what came out and what was counted.
//!
//! | file | owns |
//! |---|---|
//! | `scene` | who is there, what is published, which flows are open |
//! | `fast` | running a program a hundred thousand times |
//! | `judge` | what must hold of each run |
//! | `tally` | what a run met: hooks, verdicts, reasons |

mod fast;
mod judge;
mod scene;
mod tally;

use netd_fuzz::case::Case;
use netd_fuzz::cast::Cast;
use netd_fuzz::minimise::minimise;
use netd_fuzz::run::{Budget, caught};
use netd_fuzz::{corpus, mutate};

use self::fast::Fast;
pub use self::scene::Scene;
pub use self::tally::Tally;
use super::world::World;

/// Cases between two prologues: the flow tables are full long before the end of a block.
const BLOCK: u64 = 2_500;

/// Runs a failing input may take to become small.
const STEPS: usize = 600;

/// The first case that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its number; the corpus has none.
    pub number: Option<u64>,
    /// What surrounded it.
    pub scene: Scene,
    /// The case, as small as it could be made.
    pub case: Case,
    /// Whether it fails alone, right after the prologue; else it needs those before it in its block.
    pub alone: bool,
    /// What does not hold of it.
    pub what: String,
}

impl Failure {
    /// What a person reads: how to see it again, and where it was written.
    pub fn report(&self, seed: u64) -> String {
        let name = format!("elf-{seed}-{}", self.number.unwrap_or(0));
        let written = corpus::write(&name, &self.what, &self.case.to_string());
        let alone = if self.alone {
            "fails alone"
        } else {
            "needs the cases before it"
        };
        format!(
            "{}\n  seed {seed}, case {:?}, {:?}: {alone}\n  {}\n  {written}",
            self.what, self.number, self.scene, self.case
        )
    }
}

/// Runs the corpus in every scene.
pub fn kept(world: &mut World) -> Result<Tally, Box<Failure>> {
    let (mut fast, mut tally) = (Fast::new(world), Tally::default());
    let kept = corpus::load().unwrap_or_else(|e| panic!("{e}"));
    for scene in Scene::ALL {
        scene.set(world);
        for k in &kept {
            fast.begin(world);
            one(&mut fast, world, scene, &k.case, None, &mut tally)?;
        }
    }
    Ok(tally)
}

/// Runs the cases of a budget.
pub fn random(world: &mut World, budget: Budget) -> Result<Tally, Box<Failure>> {
    let (mut fast, mut tally) = (Fast::new(world), Tally::default());
    let cast = Cast::new();
    let mut scene = Scene::Plain;
    for n in budget.cases() {
        if n % BLOCK == 0 {
            scene = Scene::of(n / BLOCK);
            scene.set(world);
            fast.begin(world);
        }
        let case = mutate::case(&mut budget.rng(n), &cast);
        one(&mut fast, world, scene, &case, Some(n), &mut tally)?;
    }
    Ok(tally)
}

fn one(
    fast: &mut Fast,
    world: &mut World,
    scene: Scene,
    case: &Case,
    number: Option<u64>,
    tally: &mut Tally,
) -> Result<(), Box<Failure>> {
    let mut met = None;
    let outcome = caught(|| {
        if let Some(run) = fast.run(world, case)? {
            met = Some(judge::judge(world, scene, case, &run)?);
        }
        Ok(())
    });
    let Err(what) = outcome else {
        tally.note(met);
        return Ok(());
    };
    let mut fails = |frame: &[u8]| {
        fast.begin(world);
        let case = Case {
            frame: frame.to_vec(),
            ..case.clone()
        };
        let again = caught(|| match fast.run(world, &case)? {
            Some(run) => judge::judge(world, scene, &case, &run).map(drop),
            None => Ok(()),
        });
        again.err()
    };
    let alone = fails(&case.frame).is_some();
    let mut case = case.clone();
    let mut said = what;
    if alone {
        case.frame = minimise(&case.frame, |frame| fails(frame).is_some(), STEPS);
        said = fails(&case.frame).unwrap_or(said);
    }
    Err(Box::new(Failure {
        number,
        scene,
        case,
        alone,
        what: said,
    }))
}
