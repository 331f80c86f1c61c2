//! What admission adds to the span path: two agents that differ in nothing else, offered load in turns.
//!
//! One run after the other measures the machine's mood: other guests, clock speed and memory move a figure by a fifth
//! between two runs. Here both agents run all the time and take turns of half a second, A B B A, and each pair of
//! neighbours gives one ratio; the median of many says what is added.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{PORTS, ROWS, Row, Running, SPANS, admission, configuration, load, wait_ready};

/// Pairs of turns that count. The quartiles of so many are within 1 % on a quiet machine.
const PAIRS: usize = 80;
const TURN: Duration = Duration::from_millis(500);
/// Turns before the first that counts: connections, code and caches warm.
const WARM: usize = 4;

/// Prints by how much the span path with admission costs more CPU a span than without.
pub(crate) fn run(program: &Path) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("spanwarden-turns-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let measured = compare(program, &directory);
    fs::remove_dir_all(&directory)?;
    let mut ratios = measured?;
    ratios.sort_by(f64::total_cmp);
    let percent = |part: usize| (ratios[ratios.len() * part / 4] - 1.0) * 100.0;
    println!(
        "Admission adds {:.1} % of CPU a span (median of {PAIRS} pairs of turns of {} ms, quartiles {:.1} to {:.1} %; \
         scrubbed and routed to three, {SPANS} spans a request, {}, no compression).",
        percent(2),
        TURN.as_millis(),
        percent(1),
        percent(3),
        spanwarden_tests::load::SHAPE,
    );
    Ok(())
}

fn compare(program: &Path, directory: &Path) -> Result<Vec<f64>> {
    let mut sink = Running::start(std::env::current_exe()?, &["sink"], &[])?;
    sink.wait_for("listening")?;
    let (token, admission) = admission(directory)?;
    let row = |with| ROWS.iter().find(|row| row.gateways == 3 && !row.zstd && row.admission == with);
    let none = super::Admission::default();
    let agents = [
        start(program, directory, row(false).context("a row without admission")?, &none, 0)?,
        start(program, directory, row(true).context("a row with admission")?, &admission, 1)?,
    ];
    let mut sender = Sender::start(&token)?;
    for turn in 0..WARM {
        sender.offer(turn % 2)?;
    }
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let mut cost = [0.0; 2];
        for turn in 0..2 {
            let which = (pair + turn) % 2;
            let before = on_cpu(&agents[which])?;
            let spans = sender.offer(which)?;
            ensure!(spans > 0, "no span was acknowledged in a turn");
            cost[which] = (on_cpu(&agents[which])? - before) as f64 / spans as f64;
        }
        ratios.push(cost[1] / cost[0]);
    }
    Ok(ratios)
}

fn start(
    program: &Path,
    directory: &Path,
    row: &Row,
    admission: &super::Admission,
    number: usize,
) -> Result<Running> {
    let config = directory.join(format!("{number}.yaml"));
    fs::write(&config, configuration(row, admission, PORTS[number]))?;
    let config = config.to_str().context("a temporary directory whose name is not UTF-8")?;
    let agent = Running::start(program.to_owned(), &["run", "--config", config], &[("RUST_LOG", "warn")])?;
    wait_ready(PORTS[number][1])?;
    Ok(agent)
}

/// Nanoseconds that all threads of a process were on a CPU: the first field of `/proc/PID/task/TID/schedstat`
/// (`Documentation/scheduler/sched-stats.rst`). Its ticks of 10 ms would be 2 % of a turn.
fn on_cpu(agent: &Running) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{}/task", agent.child.id()))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().context("an odd schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// The load generator, told whom to send to.
struct Sender {
    process: Running,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Sender {
    fn start(token: &str) -> Result<Self> {
        let name = std::env::current_exe()?;
        let [first, second] = PORTS.map(|[port, _]| format!("127.0.0.1:{port}"));
        let mut child = Command::new(&name)
            .args(["turns", &first, &second])
            .env(load::TOKEN, token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().context("its standard input")?;
        let answers = BufReader::new(child.stdout.take().context("its standard output")?).lines();
        Ok(Self { process: Running { child, name }, orders, answers })
    }

    /// One turn: how many spans were acknowledged.
    fn offer(&mut self, which: usize) -> Result<u64> {
        writeln!(self.orders, "{which} {}", TURN.as_millis())?;
        let Some(line) = self.answers.next() else {
            anyhow::bail!("the load generator ended: {:?}", self.process.child.wait()?)
        };
        Ok(line?.parse()?)
    }
}
