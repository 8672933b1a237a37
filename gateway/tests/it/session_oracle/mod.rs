//! What must hold for one session whatever happens to it, in whatever order: one check that the
//! property tests, the kept corpus and the fuzz target `session` share.
//!
//! A script is octets. [`script`] reads them as events, and [`world`] carries them out on a session:
//! it plays its driver and its broker with a virtual clock, [`rooms`] what others say. [`client`]
//! knows what the client has asked for and judges what it gets, [`reader`] does so for one
//! subscription, [`manners`] says whether there is any reason for an ERROR, and [`outputs`] hands
//! them what the session asks its driver to do.

mod client;
mod manners;
mod outputs;
mod reader;
mod rooms;
mod script;
mod world;

use arbitrary::Unstructured;

use self::world::World;

/// Plays the script, then lets everything that is outstanding end well, then lets the client fall
/// silent. Panics where something does not hold.
pub(crate) fn check(script: &[u8]) {
    let mut script = Unstructured::new(script);
    let mut world = World::new(&script::setup(&mut script));
    while !script.is_empty() && !world.is_over() {
        script::step(&mut script, &mut world);
        world.check();
    }
    world.settle();
    world.fall_silent();
}
