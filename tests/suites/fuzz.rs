//! The fuzz targets on a stable toolchain: the committed corpus, generated requests, and mutations of both. The
//! same on every run. `tests/fuzz` runs them with coverage.

use std::{fs, path::Path};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use prost::Message as _;
use spanwarden_tests::{
    fuzz::TARGETS,
    oracle::{Dice, model, strategies::requests},
};

const GENERATED: usize = 40;
const MUTATIONS: usize = 3000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable file")).collect()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = corpus(target);
    assert!(!seeds.is_empty(), "{target} has a corpus");
    let mut runner = TestRunner::deterministic();
    for _ in 0..GENERATED {
        let request = requests().new_tree(&mut runner).expect("a request").current();
        match target {
            "walker" => seeds.push(request.encode_to_vec()),
            "plan" => {
                seeds.extend((0..4).map(|rules| [&[rules][..], &request.encode_to_vec()].concat()));
            }
            "json" => {
                seeds.push(request.encode_to_vec());
                seeds.push(serde_json::to_vec(&model::to_json(&request)).expect("JSON"));
            }
            _ => {}
        }
    }
    seeds
}

fn mutate(data: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        if data.is_empty() {
            data.push(dice.roll() as u8);
        }
        let at = dice.below(data.len());
        match dice.below(8) {
            0 => data.truncate(at),
            1 => data[at] ^= 1 << dice.below(8),
            2 => data[at] = dice.roll() as u8,
            3 => data[at] = [0, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x4a][dice.below(7)],
            4 => data.insert(at, dice.roll() as u8),
            5 => {
                data.remove(at);
            }
            6 => {
                let end = at + dice.below((data.len() - at).min(64) + 1);
                let piece = data[at..end].to_vec();
                data.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[dice.below(seeds.len())];
                data.truncate(at);
                data.extend_from_slice(&other[at.min(other.len())..]);
            }
        }
    }
}

fn run(name: &str) {
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let seeds = seeds(name);
    for seed in &seeds {
        body(seed);
    }
    let mut dice = Dice(1);
    for _ in 0..MUTATIONS {
        let mut data = seeds[dice.below(seeds.len())].clone();
        mutate(&mut data, &seeds, &mut dice);
        body(&data);
    }
}

#[test]
fn walker() {
    run("walker");
}

#[test]
fn json() {
    run("json");
}

#[test]
fn bpf_parsers() {
    run("proto");
}

#[test]
fn token() {
    run("token");
}

#[test]
fn sql() {
    run("sql");
}

#[test]
fn url() {
    run("url");
}

#[test]
fn nosql() {
    run("nosql");
}

#[test]
fn ottl() {
    run("ottl");
}

#[test]
fn plan() {
    run("plan");
}

#[test]
fn pattern() {
    run("pattern");
}
