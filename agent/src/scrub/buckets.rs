//! Which windows share a bucket of the sieve, and with which of its places each begins there.
//!
//! A bucket lets through what its windows allow at each place taken together, so windows that look alike go into one,
//! and a window is cut where it looks most like those that are there already. What that costs is counted on a sample
//! of telemetry: the hardest windows choose first.

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use crate::otlp::walk::ValueKind;

use super::{
    pattern::window::{self, ByteSet, Window},
    value,
};

/// Places of a window that the sieve looks at.
pub(super) const PLACES: usize = 5;
/// Most windows of a bucket: the gate has a bit for each.
pub(super) const FULL: usize = 64;
/// Windows that may choose where they are cut; a plan's time to compile grows with them. More are cut where that is
/// best for each alone.
const CHOOSERS: usize = 192;
/// A cut may be so much worse than a window's best, as a factor and as a share of all positions.
const WORSE: (f64, f64) = (4.0, 0.004);
/// What is left of a window tells so many bits at least, if the whole one does.
const TELLS: f64 = 18.0;
/// How much a guess from bytes alone counts, beside what the sample says.
const GUESS: f64 = 0.3;

/// What a bucket allows: for each place, a bit for each low and each high half of a byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Halves {
    pub(super) low: [u16; PLACES],
    pub(super) high: [u16; PLACES],
}

impl Halves {
    fn of(window: &[ByteSet]) -> Self {
        // After its end, a window allows anything.
        let mut halves = Self { low: [u16::MAX; PLACES], high: [u16::MAX; PLACES] };
        for (place, set) in window.iter().enumerate().take(PLACES) {
            (halves.low[place], halves.high[place]) = (0, 0);
            for byte in set.bytes() {
                halves.low[place] |= 1 << (byte & 15);
                halves.high[place] |= 1 << (byte >> 4);
            }
        }
        halves
    }
}

/// Windows that share a bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) halves: Halves,
    /// Their numbers in the list, and how many of its places each leaves out before the first that the bucket looks
    /// at.
    pub(super) windows: Vec<(usize, usize)>,
}

/// Attributes as instrumentation writes them, by which windows are judged. What is not like them is searched as
/// well, a little more slowly.
const SAMPLE: [(&str, &str); 64] = [
    ("http.request.method", "GET"),
    ("http.route", "/api/products/{id}"),
    ("http.target", "/api/products/734512?page=12&mail=jo33@example.com"),
    ("url.full", "https://store.example.com/v1/cart/9f1c2b7e-4d0a-4c58-9a53-0c6be1d2f377?limit=25&offset=50"),
    ("url.path", "/static/css/app.4be81c07.min.css"),
    ("url.scheme", "https"),
    ("http.response.status_code", "204"),
    (
        "user_agent.original",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    ),
    ("user_agent.original", "okhttp/4.9.3 (linux; amd64) build/1187"),
    ("network.peer.address", "10.4.218.37"),
    ("network.protocol.version", "1.1"),
    ("server.address", "payments.shop.svc.cluster.local"),
    ("thread.name", "http-nio-8443-exec-12"),
    ("user.id", "user-48213"),
    ("enduser.id", "c81e728d9d4c"),
    ("client.address", "203.0.113.77"),
    ("http.request.header.traceparent", "00-7be1a4b6d2c94f13aa50c3e9d1f0b264-51d0c7a9e83b42f6-01"),
    ("http.response.header.content-type", "application/json; charset=utf-8"),
    ("http.response.header.etag", "W/\"5e8f0c2d91ab47\""),
    ("http.request.header.accept-language", "en-US,en;q=0.9,de;q=0.8"),
    ("db.system", "postgresql"),
    ("db.name", "products"),
    ("db.operation", "SELECT"),
    (
        "db.statement",
        "SELECT id, name, price FROM products WHERE category = 'garden-12' AND stock > 250 LIMIT 20",
    ),
    ("db.statement", "INSERT INTO audit_log (id, actor_id, created_at) VALUES ($1, $2, $3) RETURNING id"),
    (
        "db.query.text",
        "UPDATE carts SET total = 129.95, updated_at = '2026-03-14T09:26:53.589Z' WHERE cart_id = 88123",
    ),
    ("db.collection.name", "customer_addresses"),
    ("db.connection_string", "Server=sql-01.internal;Database=stock;Pooling=true"),
    ("db.query.text", "{\"find\":\"items\",\"filter\":{\"sku\":\"AB-20417\",\"qty\":{\"$gt\":4}}}"),
    ("messaging.system", "kafka"),
    ("messaging.destination.name", "orders.created.v2"),
    ("messaging.message.id", "3d7a0f5c-11b8-4f6e-b2c4-96f0d8a1e7b3"),
    ("messaging.kafka.consumer.group", "shipping-workers"),
    ("rpc.system", "grpc"),
    ("rpc.service", "warehouse.v1.StockService"),
    ("rpc.method", "ReserveItems"),
    ("exception.type", "java.util.concurrent.TimeoutException"),
    ("exception.message", "connection to 10.2.71.6:5432 refused after 3 retries"),
    (
        "exception.stacktrace",
        "at com.example.stock.Reserve.run(Reserve.java:148)\n\tat java.lang.Thread.run(Thread.java:1583)",
    ),
    ("exception.stacktrace", "File \"/usr/lib/python3.12/asyncio/base_events.py\", line 1982, in _run_once"),
    ("code.function.name", "github.com/example/stock/internal/store.(*Client).Reserve"),
    ("code.file.path", "/home/build/src/main/java/com/example/Application.java"),
    ("k8s.pod.name", "stock-7c9d5b6f48-x2v9q"),
    ("k8s.pod.uid", "b4f8e6a1-72c3-4d95-8e0b-5a9c1f37d260"),
    ("k8s.namespace.name", "shop-production"),
    ("k8s.node.name", "ip-10-0-47-112.eu-west-1.compute.internal"),
    ("container.id", "4f8a1c6be2d97035a1c4e8f60b72d95e3c18af7046bd92e5"),
    ("container.image.name", "registry.example.net/shop/stock"),
    ("cloud.region", "eu-west-1"),
    ("host.name", "node-17.rack4.example.net"),
    ("process.command_line", "/opt/app/bin/server --port=8080 --config=/etc/app/config.yaml --workers 16"),
    ("process.runtime.name", "OpenJDK Runtime Environment"),
    ("service.name", "checkout-service"),
    ("service.version", "v1.14.2-rc.3+20261014"),
    ("telemetry.sdk.language", "java"),
    ("telemetry.sdk.name", "opentelemetry"),
    ("otel.scope.name", "io.opentelemetry.spring-webmvc-6.0"),
    ("log.message", "2026-06-30 17:45:02.117 INFO worker-3: batch of 512 rows done in 48.2ms, ratio 0.9731"),
    ("cache.key", "catalog/items/590318:v3"),
    ("feature_flag.key", "new_checkout_flow"),
    ("session.id", "Zx81kPq0vT5mW2nB7cRd"),
    ("app.sizes", "[120, 84, 1990, 7]"),
    ("event.time", "1793437261459"),
    ("net.sock.peer.addr", "2001:db8:4f:17::a2"),
];

/// Positions of the sample, a bit each.
const WORDS: usize = 56;
type Positions = [u64; WORDS];

/// Where in the sample bytes have certain halves, place by place after a position.
#[derive(Debug)]
struct Counted {
    low: Vec<[Positions; 16]>,
    high: Vec<[Positions; 16]>,
    /// By its halves, how often a byte is met.
    shares: [[f64; 16]; 16],
}

static COUNTED: LazyLock<Counted> = LazyLock::new(|| {
    let mut text = Vec::new();
    for (key, content) in SAMPLE {
        value::put_attribute(&mut text, 9, key.as_bytes(), ValueKind::String, content.as_bytes());
    }
    let mut counted = Counted {
        low: vec![[[0; WORDS]; 16]; PLACES],
        high: vec![[[0; WORDS]; 16]; PLACES],
        shares: [[0.5; 16]; 16],
    };
    for at in 0..WORDS * 64 {
        for place in 0..PLACES {
            let byte = text[(at + place) % text.len()];
            let bit = 1 << (at % 64);
            counted.low[place][usize::from(byte & 15)][at / 64] |= bit;
            counted.high[place][usize::from(byte >> 4)][at / 64] |= bit;
        }
        let byte = text[at % text.len()];
        counted.shares[usize::from(byte >> 4)][usize::from(byte & 15)] += 1.0;
    }
    let all = (WORDS * 64) as f64 + 128.0;
    counted.shares.iter_mut().flatten().for_each(|share| *share /= all);
    counted
});

/// A cluster in the making.
#[derive(Clone, Debug)]
struct Bucket {
    cluster: Cluster,
    /// Where in the sample each place allows the bytes.
    places: Vec<[Positions; 2]>,
    cost: f64,
}

impl Bucket {
    fn new() -> Self {
        Self { cluster: Cluster::default(), places: vec![[[0; WORDS]; 2]; PLACES], cost: 0.0 }
    }

    /// How often it would let a position of telemetry through with these halves, too.
    fn with(&self, halves: &Halves) -> f64 {
        let mut all = [u64::MAX; WORDS];
        let mut guess = 1.0;
        for place in 0..PLACES {
            let (low, high) = (
                halves.low[place] | self.cluster.halves.low[place],
                halves.high[place] | self.cluster.halves.high[place],
            );
            if low == u16::MAX && high == u16::MAX {
                continue;
            }
            let [mut lows, mut highs] = self.places[place];
            self.grow(place, halves, &mut lows, &mut highs);
            for ((all, low), high) in all.iter_mut().zip(&lows).zip(&highs) {
                *all &= low & high;
            }
            let rows = COUNTED.shares.iter().enumerate().filter(|(row, _)| high >> row & 1 == 1);
            guess *= rows
                .flat_map(|(_, row)| row.iter().enumerate())
                .filter(|(column, _)| low >> column & 1 == 1)
                .map(|(_, share)| share)
                .sum::<f64>();
        }
        let count: u32 = all.iter().map(|word| word.count_ones()).sum();
        f64::from(count) / (WORDS * 64) as f64 + GUESS * guess
    }

    /// Adds what halves allow at a place that it does not allow yet.
    fn grow(&self, place: usize, halves: &Halves, lows: &mut Positions, highs: &mut Positions) {
        let mine = &self.cluster.halves;
        add(&COUNTED.low[place], halves.low[place] & !mine.low[place], lows);
        add(&COUNTED.high[place], halves.high[place] & !mine.high[place], highs);
    }

    fn join(&mut self, number: usize, cut: usize, halves: &Halves) {
        self.cost = self.with(halves);
        for place in 0..PLACES {
            let [mut lows, mut highs] = self.places[place];
            self.grow(place, halves, &mut lows, &mut highs);
            self.places[place] = [lows, highs];
            self.cluster.halves.low[place] |= halves.low[place];
            self.cluster.halves.high[place] |= halves.high[place];
        }
        self.cluster.windows.push((number, cut));
    }
}

fn add(table: &[Positions; 16], halves: u16, to: &mut Positions) {
    for positions in table.iter().enumerate().filter(|(half, _)| halves >> half & 1 == 1).map(|(_, one)| one)
    {
        to.iter_mut().zip(positions).for_each(|(to, word)| *to |= word);
    }
}

/// The ways to cut a window: how many places are left out, and what it then allows; and how often it is met in its
/// best cut.
fn cuts(window: &[ByteSet]) -> (Vec<(usize, Halves)>, f64) {
    let enough = window::bits(window).min(TELLS);
    let cuts = (0..window.len().max(1)).filter(|cut| *cut == 0 || window::bits(&window[*cut..]) >= enough);
    let empty = Bucket::new();
    let mut cuts: Vec<_> = cuts
        .map(|cut| {
            let halves = Halves::of(&window[cut..]);
            (cut, halves, empty.with(&halves))
        })
        .collect();
    cuts.sort_by(|a, b| a.2.total_cmp(&b.2));
    let best = cuts[0].2;
    cuts.retain(|(_, _, cost)| *cost <= best * WORSE.0 + WORSE.1);
    (cuts.into_iter().map(|(cut, halves, _)| (cut, halves)).collect(), best)
}

/// Deals windows out to at most so many buckets, of which each has room for [`FULL`].
pub(super) fn clusters(windows: &[Window], most: usize) -> Vec<Cluster> {
    let mut all: Vec<_> = windows.iter().enumerate().map(|(number, window)| (number, cuts(window))).collect();
    all.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
    let mut buckets = vec![Bucket::new(); most.min(windows.len())];
    for (order, (number, (mut cuts, _))) in all.into_iter().enumerate() {
        if order >= CHOOSERS {
            cuts.truncate(1);
        }
        let room = buckets.iter().enumerate().filter(|(_, bucket)| bucket.cluster.windows.len() < FULL);
        let ways = room.flat_map(|(at, bucket)| {
            cuts.iter().map(move |(cut, halves)| (bucket.with(halves) - bucket.cost, at, *cut, *halves))
        });
        if let Some((_, at, cut, halves)) = ways.min_by(|(a, ..), (b, ..)| a.total_cmp(b)) {
            buckets[at].join(number, cut, &halves);
        }
    }
    buckets.into_iter().map(|bucket| bucket.cluster).filter(|cluster| !cluster.windows.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrub::pattern;

    #[test]
    fn every_window_is_in_one_bucket_that_lets_it_through() {
        let windows: Vec<Window> = (0..300)
            .flat_map(|number| {
                pattern::windows(&format!("{}k{number:03}_[a-f]{{3}}", ["", "A", "x-"][number % 3]))
            })
            .collect();
        for most in [8, 24] {
            let clusters = clusters(&windows, most);
            assert!(clusters.len() <= most);
            let mut seen: Vec<usize> =
                clusters.iter().flat_map(|cluster| &cluster.windows).map(|(number, _)| *number).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..windows.len()));
            for cluster in &clusters {
                assert!(cluster.windows.len() <= FULL);
                for (number, cut) in &cluster.windows {
                    let own = Halves::of(&windows[*number][*cut..]);
                    assert!((0..PLACES).all(|at| own.low[at] & !cluster.halves.low[at] == 0));
                    assert!((0..PLACES).all(|at| own.high[at] & !cluster.halves.high[at] == 0));
                }
            }
        }
        assert!(clusters(&[], 8).is_empty());
    }
}
