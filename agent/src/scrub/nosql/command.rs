//! Commands of Redis, Valkey and Memcached without their arguments.
//!
//! Each line is a command: its name stays if it is one that the server knows, with the name of its subcommand, and
//! everything behind it becomes one `?`. A line that begins with anything else becomes `?`: it is part of a value, or
//! nobody can say what it is. Keys are arguments: they hold e-mail addresses as often as values do.

#![forbid(unsafe_code)]

use std::{collections::HashSet, sync::LazyLock};

use memchr::memchr;

/// Whose commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Redis and Valkey; names in any case.
    Redis,
    /// Memcached's text protocol.
    Memcached,
}

/// Writes the commands without their arguments. `false` where nothing changes.
pub fn sanitize(text: &[u8], server: Server, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut rest = text;
    loop {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        let (line, ending) = match line.strip_suffix(b"\r") {
            Some(line) => (line, &b"\r"[..]),
            None => (line, &b""[..]),
        };
        put_line(line, server, out);
        out.extend_from_slice(ending);
        let Some(after) = after.strip_prefix(b"\n") else { break };
        out.push(b'\n');
        rest = after;
    }
    out != text
}

/// Whether the text begins with the name of a command.
pub fn is_command(text: &[u8], server: Server) -> bool {
    let (_, word, _) = word(text);
    known(word, server)
}

fn put_line(line: &[u8], server: Server, out: &mut Vec<u8>) {
    let (space, name, after) = word(line);
    if name.is_empty() {
        out.extend_from_slice(line);
        return;
    }
    out.extend_from_slice(space);
    if !known(name, server) {
        out.push(b'?');
        return;
    }
    out.extend_from_slice(name);
    let mut after = after;
    if server == Server::Redis {
        let (space, second, rest) = word(after);
        if is_subcommand(name, second) {
            out.extend_from_slice(space);
            out.extend_from_slice(second);
            after = rest;
        }
    }
    let (space, argument, _) = word(after);
    out.extend_from_slice(space);
    if !argument.is_empty() {
        out.push(b'?');
    }
}

/// White space, the word behind it, and the rest.
fn word(text: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
    let (space, text) = text.split_at(start);
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (space, word, rest)
}

/// Longer than any name below.
const LONGEST: usize = 24;

/// Names; those of Redis in capital letters.
type Names = LazyLock<HashSet<&'static [u8]>>;

macro_rules! names {
    ($text:literal) => {
        LazyLock::new(|| $text.split(' ').map(str::as_bytes).collect())
    };
}

/// Looks for a name in any case.
fn listed(name: &[u8], names: &Names) -> bool {
    let mut upper = [0; LONGEST];
    let Some(upper) = upper.get_mut(..name.len()) else { return false };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    names.contains(&*upper)
}

fn known(name: &[u8], server: Server) -> bool {
    match server {
        Server::Redis => listed(name, &REDIS),
        Server::Memcached => MEMCACHED.contains(name),
    }
}

fn is_subcommand(name: &[u8], second: &[u8]) -> bool {
    listed(name, &CONTAINERS) && listed(second, &SUBCOMMANDS)
}

/// The commands of Redis 8 and Valkey 8 with those of the usual modules.
static REDIS: Names = names!(
    "ACL APPEND ASKING AUTH BF.ADD BF.CARD BF.EXISTS BF.INFO BF.INSERT BF.MADD BF.MEXISTS BF.RESERVE \
    BGREWRITEAOF BGSAVE BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH \
    BZMPOP BZPOPMAX BZPOPMIN CF.ADD CF.ADDNX CF.COUNT CF.DEL CF.EXISTS CF.INFO CF.INSERT CF.INSERTNX \
    CF.MEXISTS CF.RESERVE CLIENT CLUSTER CMS.INCRBY CMS.INFO CMS.INITBYDIM CMS.INITBYPROB CMS.MERGE \
    CMS.QUERY COMMAND CONFIG COPY DBSIZE DEBUG DECR DECRBY DEL DISCARD DUMP ECHO EVAL EVALSHA EVALSHA_RO \
    EVAL_RO EXEC EXISTS EXPIRE EXPIREAT EXPIRETIME FAILOVER FCALL FCALL_RO FLUSHALL FLUSHDB FT.AGGREGATE \
    FT.ALIASADD FT.ALIASDEL FT.ALIASUPDATE FT.ALTER FT.CONFIG FT.CREATE FT.CURSOR FT.DICTADD FT.DICTDEL \
    FT.DICTDUMP FT.DROPINDEX FT.EXPLAIN FT.INFO FT.PROFILE FT.SEARCH FT.SPELLCHECK FT.SUGADD FT.SUGDEL \
    FT.SUGGET FT.SUGLEN FT.SYNDUMP FT.SYNUPDATE FT.TAGVALS FT._LIST FUNCTION GEOADD GEODIST GEOHASH GEOPOS \
    GEORADIUS GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GEOSEARCHSTORE GET GETBIT GETDEL \
    GETEX GETRANGE GETSET GRAPH.DELETE GRAPH.QUERY GRAPH.RO_QUERY HDEL HELLO HEXISTS HEXPIRE HEXPIREAT \
    HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST HPEXPIRE \
    HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS INCR INCRBY \
    INCRBYFLOAT INFO JSON.ARRAPPEND JSON.ARRINDEX JSON.ARRINSERT JSON.ARRLEN JSON.ARRPOP JSON.ARRTRIM \
    JSON.CLEAR JSON.DEL JSON.FORGET JSON.GET JSON.MERGE JSON.MGET JSON.MSET JSON.NUMINCRBY JSON.NUMMULTBY \
    JSON.OBJKEYS JSON.OBJLEN JSON.RESP JSON.SET JSON.STRAPPEND JSON.STRLEN JSON.TOGGLE JSON.TYPE KEYS \
    LASTSAVE LATENCY LCS LINDEX LINSERT LLEN LMOVE LMPOP LOLWUT LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET \
    LTRIM MEMORY MGET MIGRATE MODULE MONITOR MOVE MSET MSETNX MULTI OBJECT PERSIST PEXPIRE PEXPIREAT \
    PEXPIRETIME PFADD PFCOUNT PFDEBUG PFMERGE PFSELFTEST PING PSETEX PSUBSCRIBE PSYNC PTTL PUBLISH PUBSUB \
    PUNSUBSCRIBE QUIT RANDOMKEY READONLY READWRITE RENAME RENAMENX REPLCONF REPLICAOF RESET RESTORE \
    RESTORE-ASKING ROLE RPOP RPOPLPUSH RPUSH RPUSHX SADD SAVE SCAN SCARD SCRIPT SDIFF SDIFFSTORE SELECT \
    SENTINEL SET SETBIT SETEX SETNX SETRANGE SHUTDOWN SINTER SINTERCARD SINTERSTORE SISMEMBER SLAVEOF \
    SLOWLOG SMEMBERS SMISMEMBER SMOVE SORT SORT_RO SPOP SPUBLISH SRANDMEMBER SREM SSCAN SSUBSCRIBE STRLEN \
    SUBSCRIBE SUBSTR SUNION SUNIONSTORE SUNSUBSCRIBE SWAPDB SYNC TDIGEST.ADD TDIGEST.CREATE TDIGEST.INFO \
    TDIGEST.QUANTILE TIME TOPK.ADD TOPK.COUNT TOPK.INCRBY TOPK.INFO TOPK.LIST TOPK.QUERY TOPK.RESERVE TOUCH \
    TS.ADD TS.ALTER TS.CREATE TS.CREATERULE TS.DECRBY TS.DEL TS.DELETERULE TS.GET TS.INCRBY TS.INFO TS.MADD \
    TS.MGET TS.MRANGE TS.MREVRANGE TS.QUERYINDEX TS.RANGE TS.REVRANGE TTL TYPE UNLINK UNSUBSCRIBE UNWATCH \
    VADD VCARD VDIM VEMB VGETATTR VINFO VLINKS VRANDMEMBER VREM VSETATTR VSIM WAIT WAITAOF WATCH XACK \
    XACKDEL XADD XAUTOCLAIM XCLAIM XDEL XDELEX XGROUP XINFO XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE \
    XSETID XTRIM ZADD ZCARD ZCOUNT ZDIFF ZDIFFSTORE ZINCRBY ZINTER ZINTERCARD ZINTERSTORE ZLEXCOUNT ZMPOP \
    ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM \
    ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN \
    ZSCORE ZUNION ZUNIONSTORE"
);

/// Commands that have subcommands.
static CONTAINERS: Names = names!(
    "ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FT.CONFIG FT.CURSOR FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB \
    SCRIPT SENTINEL SLOWLOG XGROUP XINFO"
);

/// The names of all subcommands.
static SUBCOMMANDS: Names = names!(
    "ADDSLOTS ADDSLOTSRANGE BUMPEPOCH CACHING CAPA CAT CHANNELS CKQUORUM CONSUMERS COUNT \
    COUNT-FAILURE-REPORTS COUNTKEYSINSLOT CREATE CREATECONSUMER DEBUG DEL DELCONSUMER DELETE DELSLOTS \
    DELSLOTSRANGE DELUSER DESTROY DOCS DOCTOR DRYRUN DUMP ENCODING EXISTS FAILOVER FLUSH FLUSHCONFIG \
    FLUSHSLOTS FORGET FREQ GENPASS GET GET-MASTER-ADDR-BY-NAME GETKEYS GETKEYSANDFLAGS GETKEYSINSLOT GETNAME \
    GETREDIR GETUSER GRAPH GROUPS HELP HISTOGRAM HISTORY ID IDLETIME INFO IS-MASTER-DOWN-BY-ADDR KEYSLOT \
    KILL LATEST LEN LINKS LIST LOAD LOADEX LOG MALLOC-STATS MASTER MASTERS MEET MONITOR MYID MYSHARDID \
    NO-EVICT NO-TOUCH NODES NUMPAT NUMSUB OBJECT PAUSE PURGE REFCOUNT REMOVE REPLICAS REPLICATE REPLY RESET \
    RESETSTAT RESTORE REWRITE SAVE SAVECONFIG SENTINELS SET SET-CONFIG-EPOCH SETID SETINFO SETNAME SETSLOT \
    SETUSER SHARDCHANNELS SHARDNUMSUB SHARDS SHOW SLAVES SLOT-STATS SLOTS STATS STREAM TRACKING TRACKINGINFO \
    UNBLOCK UNLOAD UNPAUSE USAGE USERS WHOAMI"
);

static MEMCACHED: Names = names!(
    "set add replace append prepend cas get gets gat gats delete incr decr touch stats flush_all version quit \
    verbosity slabs lru lru_crawler watch shutdown mg ms md ma mn"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn sanitized(text: &str, server: Server) -> String {
        let mut out = Vec::new();
        let changed = sanitize(text.as_bytes(), server, &mut out);
        let out = String::from_utf8(out).expect("text stays text");
        let mut again = Vec::new();
        assert!(!sanitize(out.as_bytes(), server, &mut again), "once is enough: {out}");
        assert_eq!(changed, out != text, "{text}");
        out
    }

    #[test]
    fn commands_stay_and_arguments_go() {
        for (before, after) in [
            ("GET user:alice@example.com", "GET ?"),
            ("set k 'a b' EX 10", "set ?"),
            ("PING", "PING"),
            ("  Ping  ", "  Ping  "),
            ("AUTH alice hunter2", "AUTH ?"),
            ("HELLO 3 AUTH alice hunter2", "HELLO ?"),
            ("CONFIG SET requirepass hunter2", "CONFIG SET ?"),
            ("config get *", "config get ?"),
            ("CONFIG hunter2", "CONFIG ?"),
            ("ACL SETUSER alice >hunter2", "ACL SETUSER ?"),
            ("GET SET", "GET ?"),
            ("XGROUP CREATE s g $", "XGROUP CREATE ?"),
            ("JSON.SET doc $ '{\"a\":1}'", "JSON.SET ?"),
            ("MULTI\nSET a 1\nEXEC", "MULTI\nSET ?\nEXEC"),
            ("SET a line one\r\nsecret\r\nGET b", "SET ?\r\n?\r\nGET ?"),
            ("hunter2", "?"),
            ("GETX alice", "?"),
            ("*2\r\n$3\r\nGET\r\n$5\r\nalice\r\n", "?\r\n?\r\nGET\r\n?\r\n?\r\n"),
            ("", ""),
            ("\n\n", "\n\n"),
        ] {
            assert_eq!(sanitized(before, Server::Redis), after);
        }
        for (before, after) in [
            ("set session:alice 0 60 5\r\nalice\r\n", "set ?\r\n?\r\n"),
            ("get a b c", "get ?"),
            ("GET a", "?"),
            ("mg key v\r\n", "mg ?\r\n"),
            ("flush_all", "flush_all"),
        ] {
            assert_eq!(sanitized(before, Server::Memcached), after);
        }
    }

    #[test]
    fn names_fit() {
        for names in [&REDIS, &CONTAINERS, &SUBCOMMANDS] {
            assert!(names.iter().all(|name| name.len() <= LONGEST && name.to_ascii_uppercase() == **name));
        }
        assert!(is_command(b" get x", Server::Redis) && !is_command(b"SELECT_1", Server::Redis));
        assert!(CONTAINERS.iter().all(|name| REDIS.contains(name)));
    }
}
