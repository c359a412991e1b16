"""The tables of the ledger. Times are seconds since the epoch, sizes bytes, documents JSON.

Changing anything here needs a new ``VERSION`` and a step in ``migrations.py``.
"""

VERSION = 5

STATEMENTS = (
    """CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT""",
    """CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT""",
    """CREATE TABLE campaigns (
        name TEXT PRIMARY KEY, spec TEXT NOT NULL, state TEXT NOT NULL,
        created_s REAL NOT NULL, started_s REAL, ended_s REAL, reason TEXT,
        priority INTEGER NOT NULL DEFAULT 0) STRICT""",
    """CREATE TABLE search_state (
        campaign TEXT NOT NULL REFERENCES campaigns(name), device TEXT NOT NULL,
        state TEXT NOT NULL, updated_s REAL NOT NULL,
        PRIMARY KEY (campaign, device)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX campaigns_by_age ON campaigns (created_s DESC, name)",
    """CREATE INDEX campaigns_live ON campaigns (priority DESC, created_s)
       WHERE state IN ('queued', 'running')""",
    """CREATE TABLE devices (
        name TEXT PRIMARY KEY, profile TEXT, fingerprint TEXT NOT NULL, capabilities TEXT NOT NULL,
        shares_host INTEGER NOT NULL, state TEXT NOT NULL, created_s REAL NOT NULL,
        last_seen_s REAL, strikes INTEGER NOT NULL DEFAULT 0, reason TEXT) STRICT""",
    """CREATE TABLE agents (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, pool TEXT NOT NULL,
        device TEXT REFERENCES devices(name), secret_hash TEXT NOT NULL UNIQUE,
        created_s REAL NOT NULL, first_used_s REAL, revoked_s REAL) STRICT""",
    "CREATE INDEX agents_by_device ON agents (device) WHERE revoked_s IS NULL",
    """CREATE TABLE enrolments (
        token_hash TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, profile TEXT,
        created_s REAL NOT NULL, expires_s REAL NOT NULL, used_s REAL,
        agent TEXT REFERENCES agents(id)) STRICT""",
    """CREATE TABLE tokens (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,
        secret_hash TEXT NOT NULL UNIQUE, created_s REAL NOT NULL, expires_s REAL,
        revoked_s REAL) STRICT""",
    """CREATE TABLE shares (
        campaign TEXT NOT NULL REFERENCES campaigns(name), pool TEXT NOT NULL,
        used_s REAL NOT NULL, PRIMARY KEY (campaign, pool)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE recipes (hash TEXT PRIMARY KEY, steps TEXT NOT NULL) STRICT""",
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
        pool TEXT NOT NULL, campaign TEXT REFERENCES campaigns(name), payload TEXT NOT NULL,
        priority INTEGER NOT NULL, state TEXT NOT NULL, unowned INTEGER NOT NULL,
        cancel_requested INTEGER NOT NULL, attempt INTEGER NOT NULL, strikes INTEGER NOT NULL,
        fence INTEGER, holder TEXT REFERENCES agents(id), leased_s REAL, heartbeat_s REAL,
        lease_expires_s REAL, deadline_at_s REAL, progress REAL, result TEXT, result_sha256 TEXT,
        reason TEXT, message TEXT, created_s REAL NOT NULL, started_s REAL, finished_s REAL,
        finished_seq INTEGER UNIQUE, queue_until_s REAL) STRICT""",
    "CREATE INDEX jobs_to_lease ON jobs (pool, priority DESC, id) WHERE state = 'queued'",
    "CREATE INDEX jobs_leased ON jobs (pool, holder) WHERE state = 'leased'",
    """CREATE INDEX jobs_to_expire ON jobs (queue_until_s)
       WHERE state = 'queued' AND queue_until_s IS NOT NULL""",
    "CREATE INDEX jobs_by_campaign ON jobs (campaign, state)",
    """CREATE TABLE job_requests (
        campaign TEXT NOT NULL REFERENCES campaigns(name),
        job INTEGER NOT NULL REFERENCES jobs(id),
        PRIMARY KEY (campaign, job)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX job_requests_by_job ON job_requests (job)",
    """CREATE TABLE builds (
        key TEXT PRIMARY KEY, task TEXT NOT NULL, recipe TEXT NOT NULL REFERENCES recipes(hash),
        seed INTEGER NOT NULL, fidelity TEXT NOT NULL, sha256 TEXT NOT NULL,
        file_bytes INTEGER NOT NULL, graph_key TEXT NOT NULL, report TEXT NOT NULL,
        job INTEGER NOT NULL REFERENCES jobs(id), created_s REAL NOT NULL) STRICT""",
    "CREATE INDEX builds_by_recipe ON builds (recipe, task, fidelity)",
    "CREATE INDEX builds_by_sha256 ON builds (sha256)",
    """CREATE TABLE artifacts (
        sha256 TEXT PRIMARY KEY, file_bytes INTEGER NOT NULL,
        build_key TEXT REFERENCES builds(key), target TEXT, number_format TEXT NOT NULL,
        probe_outputs BLOB, created_s REAL NOT NULL, origin TEXT NOT NULL DEFAULT 'build',
        inspection TEXT, dropped_s REAL) STRICT""",
    "CREATE INDEX artifacts_by_build ON artifacts (build_key)",
    """CREATE TABLE evaluations (
        id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL REFERENCES artifacts(sha256),
        task TEXT NOT NULL, split TEXT NOT NULL, place TEXT NOT NULL, metric TEXT NOT NULL,
        value REAL NOT NULL, n INTEGER NOT NULL, low REAL, high REAL, scores BLOB, encoding TEXT,
        job INTEGER REFERENCES jobs(id), created_s REAL NOT NULL,
        UNIQUE (sha256, task, split, place, metric)) STRICT""",
    """CREATE TABLE labels (
        hash TEXT PRIMARY KEY, kind TEXT NOT NULL, names TEXT NOT NULL, n INTEGER NOT NULL,
        codes BLOB NOT NULL, encoding TEXT NOT NULL) STRICT""",
    """CREATE TABLE evaluation_labels (
        evaluation INTEGER NOT NULL REFERENCES evaluations(id),
        labels TEXT NOT NULL REFERENCES labels(hash),
        PRIMARY KEY (evaluation, labels)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE environments (hash TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT""",
    """CREATE TABLE measurements (
        id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL REFERENCES artifacts(sha256),
        reference_sha256 TEXT NOT NULL, device TEXT NOT NULL REFERENCES devices(name),
        runtime TEXT NOT NULL, options TEXT NOT NULL,
        environment TEXT NOT NULL REFERENCES environments(hash), plan TEXT NOT NULL,
        attempt INTEGER NOT NULL, job INTEGER NOT NULL REFERENCES jobs(id), verdict TEXT NOT NULL,
        reasons TEXT NOT NULL, ratio REAL, ratio_low REAL, ratio_high REAL, quiet_level_s REAL,
        latency_s REAL, latency_low_s REAL, latency_high_s REAL, p90_s REAL, p99_s REAL,
        n INTEGER, quiet_share REAL, load_s REAL, first_s REAL, memory_bytes INTEGER,
        provider TEXT NOT NULL, summary TEXT, conditions TEXT NOT NULL,
        created_s REAL NOT NULL) STRICT""",
    "CREATE INDEX measurements_by_sha256 ON measurements (sha256, device)",
    "CREATE INDEX measurements_by_device ON measurements (device, created_s)",
    "CREATE INDEX measurements_by_job ON measurements (job)",
    """CREATE TABLE samples (
        measurement INTEGER PRIMARY KEY REFERENCES measurements(id), blocks BLOB NOT NULL,
        calls_ns BLOB NOT NULL) STRICT""",
    """CREATE TABLE rails (
        measurement INTEGER PRIMARY KEY REFERENCES measurements(id), traces BLOB NOT NULL)
       STRICT""",
    """CREATE TABLE quiet_levels (
        device TEXT NOT NULL REFERENCES devices(name), runtime TEXT NOT NULL,
        environment TEXT NOT NULL, reference_sha256 TEXT NOT NULL, options TEXT NOT NULL,
        level_s REAL NOT NULL, busy_streak INTEGER NOT NULL, busy_level_s REAL,
        updated_s REAL NOT NULL,
        PRIMARY KEY (device, runtime, environment, reference_sha256, options)) STRICT""",
    """CREATE TABLE trials (
        id INTEGER PRIMARY KEY AUTOINCREMENT, campaign TEXT NOT NULL REFERENCES campaigns(name),
        device TEXT NOT NULL, number INTEGER NOT NULL,
        recipe TEXT NOT NULL REFERENCES recipes(hash),
        options TEXT NOT NULL, parameters TEXT NOT NULL, state TEXT NOT NULL,
        "values" TEXT, intervals TEXT, constraints TEXT, reason TEXT, message TEXT, sha256 TEXT,
        evaluations TEXT, measurement INTEGER REFERENCES measurements(id),
        started_s REAL NOT NULL, finished_s REAL,
        UNIQUE (campaign, device, recipe, options), UNIQUE (campaign, device, number)) STRICT""",
    "CREATE INDEX trials_by_state ON trials (campaign, state, id)",
    "CREATE INDEX trials_by_recipe ON trials (recipe)",
    """CREATE TABLE spans (
        id INTEGER PRIMARY KEY AUTOINCREMENT, campaign TEXT REFERENCES campaigns(name),
        kind TEXT NOT NULL, pool TEXT NOT NULL, job INTEGER NOT NULL REFERENCES jobs(id),
        start_s REAL NOT NULL, end_s REAL) STRICT""",
    "CREATE INDEX spans_by_campaign ON spans (campaign, start_s)",
    "CREATE INDEX spans_by_start ON spans (start_s)",
    "CREATE INDEX spans_open ON spans (job) WHERE end_s IS NULL",
    "INSERT INTO counters VALUES ('fence', 0), ('finished', 0)",
)
