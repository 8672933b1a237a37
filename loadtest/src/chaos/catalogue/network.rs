//! Scenarios in which the network of a single system is spoilt.

use std::time::Duration;

use super::{CONTROL, PLAIN, WITHOUT_AFTER};
use crate::chaos::scenario::{Control, Fault, Link, Scenario, Trouble};

/// Longer than any probe of a connection takes.
const CUT: Duration = Duration::from_secs(6);

/// Long enough for what waits to pile up.
const SLOW: Duration = Duration::from_secs(3);

/// What Redis has is soon too little for those who come back.
const MUCH_IS_OLD: &[&str] = &["--recent-max", "5"];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        controls: &[WITHOUT_AFTER],
        ..cut(
            "cut-client-gateway",
            "the network between clients and gateways cut without a reset",
            &[Fault::Network(Link::ClientGateway, Trouble::Cut)],
        )
    },
    slow(
        "delay-client-gateway",
        "300 ms each way between clients and gateways",
        &[Fault::Network(Link::ClientGateway, Trouble::Delay)],
    ),
    slow(
        "throttle-client-gateway",
        "20 kB/s on each connection between clients and gateways",
        &[Fault::Network(Link::ClientGateway, Trouble::Throttle)],
    ),
    Scenario {
        witness: Some("roomcast_gateway_gaps_repaired_total"),
        controls: &[Control {
            about: "gateways do not fetch what they missed",
            common: &["--without", "gap-repair,prev-check"],
            ..CONTROL
        }],
        ..cut(
            "cut-gateway-redis",
            "the network between gateways and Redis cut without a reset",
            &[Fault::Network(Link::GatewayRedis, Trouble::Cut)],
        )
    },
    Scenario {
        // The gateways repeat what they do not know the fate of; the clients do not notice.
        load: |load| load.keys = false,
        hold: Duration::from_secs(1),
        controls: &[Control {
            about: "a publish that is sent again does not know its first attempt",
            common: &["--without", "publish-token"],
            ..CONTROL
        }],
        ..cut(
            "lose-gateway-redis",
            "answers of Redis to gateways lost on their way; clients have no keys",
            &[Fault::Network(Link::GatewayRedis, Trouble::Lose)],
        )
    },
    slow(
        "delay-gateway-redis",
        "300 ms each way between gateways and Redis",
        &[Fault::Network(Link::GatewayRedis, Trouble::Delay)],
    ),
    slow(
        "throttle-gateway-redis",
        "20 kB/s on each connection between gateways and Redis",
        &[Fault::Network(Link::GatewayRedis, Trouble::Throttle)],
    ),
    Scenario {
        common: MUCH_IS_OLD,
        ..cut(
            "cut-gateway-mongodb",
            "the network between gateways and MongoDB cut without a reset, while clients come back",
            &[Fault::NetworkAndReturn(Trouble::Cut)],
        )
    },
    Scenario {
        common: MUCH_IS_OLD,
        ..slow(
            "delay-gateway-mongodb",
            "300 ms each way between gateways and MongoDB, while clients come back",
            &[Fault::NetworkAndReturn(Trouble::Delay)],
        )
    },
    Scenario {
        common: MUCH_IS_OLD,
        ..slow(
            "throttle-gateway-mongodb",
            "20 kB/s on each connection between gateways and MongoDB, while clients come back",
            &[Fault::NetworkAndReturn(Trouble::Throttle)],
        )
    },
    cut(
        "cut-persister-redis",
        "the network between persisters and Redis cut without a reset",
        &[Fault::Network(Link::PersisterRedis, Trouble::Cut)],
    ),
    slow(
        "delay-persister-redis",
        "300 ms each way between persisters and Redis",
        &[Fault::Network(Link::PersisterRedis, Trouble::Delay)],
    ),
    slow(
        "throttle-persister-redis",
        "20 kB/s on each connection between persisters and Redis",
        &[Fault::Network(Link::PersisterRedis, Trouble::Throttle)],
    ),
    cut(
        "cut-persister-mongodb",
        "the network between persisters and MongoDB cut without a reset",
        &[Fault::Network(Link::PersisterMongo, Trouble::Cut)],
    ),
    slow(
        "delay-persister-mongodb",
        "300 ms each way between persisters and MongoDB",
        &[Fault::Network(Link::PersisterMongo, Trouble::Delay)],
    ),
    slow(
        "throttle-persister-mongodb",
        "20 kB/s on each connection between persisters and MongoDB",
        &[Fault::Network(Link::PersisterMongo, Trouble::Throttle)],
    ),
];

const fn cut(name: &'static str, about: &'static str, faults: &'static [Fault]) -> Scenario {
    Scenario {
        name,
        about,
        faults,
        hold: CUT,
        ..PLAIN
    }
}

const fn slow(name: &'static str, about: &'static str, faults: &'static [Fault]) -> Scenario {
    Scenario {
        hold: SLOW,
        ..cut(name, about, faults)
    }
}
