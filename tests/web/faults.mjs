// Manifests with one fault each, and the line on which a person would mend it.
//
// Every fault is drawn from a seed, so that a failure is the same each time. A document has
// one fault; they are told apart by their places in the whole text.

const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  labels:
    app: shop
spec:
  replicas: 3
  minReadySeconds: 5
  selector:
    matchLabels:
      app: shop
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 25%
  template:
    metadata:
      labels:
        app: shop
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: web
        image: shop:1
        imagePullPolicy: IfNotPresent
        ports:
        - name: http
          containerPort: 8080
        env:
        - name: LEVEL
          value: "3"
        resources:
          requests:
            cpu: 100m
            memory: 128Mi
        readinessProbe:
          httpGet:
            path: /ready
            port: http
          periodSeconds: 5
      - name: side
        image: side:2
        command: [run, "--fast"]
        args:
        - one
        - two
`;
const STATEFUL_SET = `apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: ledger
spec:
  replicas: 3
  serviceName: ledger
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      app: ledger
  template:
    metadata:
      labels:
        app: ledger
    spec:
      containers:
      - name: ledger
        image: ledger:1
        volumeMounts:
        - name: data
          mountPath: /data
  volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      resources:
        requests:
          storage: 1Gi
`;
const CRON_JOB = `apiVersion: batch/v1
kind: CronJob
metadata:
  name: nightly
spec:
  schedule: "0 2 * * *"
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 2
      template:
        spec:
          restartPolicy: OnFailure
          containers:
          - name: nightly
            image: nightly:1
            args: [report, "--all"]
`;
const SERVICE = `apiVersion: v1
kind: Service
metadata:
  name: shop
  annotations:
    owner: "12"
spec:
  type: ClusterIP
  sessionAffinity: None
  selector:
    app: shop
  ports:
  - name: http
    port: 80
    targetPort: http
    protocol: TCP
`;
const ALL = [DEPLOYMENT, STATEFUL_SET, CRON_JOB, SERVICE];
/** Their names are free, so that a slip in one is no fault. */
const FREE = /^\s*(app|owner|cpu|memory|storage):/;

const numbers = (seed) => {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
};

/** Each makes lines wrong: it says which it may, and how; the line that is wrong is its own,
 * or what `at` says. */
const FAULTS = [
  {
    name: "two letters of a field changed their places",
    may: (line) => /^\s*(- )?[a-z][A-Za-z]{4,}:/.test(line) && !FREE.test(line),
    make: (line, next) => {
      const [head, name] = /^(\s*(?:- )?)([A-Za-z]+)/.exec(line).slice(1);
      const places = [...name].map((_, at) => at).filter((at) => at > 0 && name[at] !== name[at - 1]);
      const at = places[next(places.length)];
      const wrong = name.slice(0, at - 1) + name[at] + name[at - 1] + name.slice(at + 1);
      return [head + wrong + line.slice(head.length + name.length)];
    },
  },
  {
    name: "a field that is not there",
    may: (line) => /^\s+[a-z][A-Za-z]+: \S/.test(line) && !FREE.test(line) && !/^\s+name:/.test(line),
    make: (line) => [`${/^\s*/.exec(line)[0]}colour: green`, line],
  },
  {
    name: "a word where a number belongs",
    may: (line) => /^\s*[a-z][A-Za-z]+: \d+$/.test(line) && !/maxSurge/.test(line),
    make: (line) => [line.replace(/\d+$/, "many")],
  },
  {
    name: "a number where a text belongs",
    may: (line) => /^\s*(- )?(name|app|image|owner|value|type|schedule): /.test(line),
    make: (line) => [line.replace(/: .*$/, ": 8080")],
  },
  {
    name: "a list where a text belongs",
    may: (line) => /^\s*(- )?(image|serviceName|mountPath|concurrencyPolicy): /.test(line),
    make: (line) => [line.replace(/: (.*)$/, ": [$1]")],
  },
  {
    name: "no quantity",
    may: (line) => /^\s*(cpu|memory|storage): /.test(line),
    make: (line) => [line.replace(/: .*$/, ": 12 apples")],
  },
  {
    name: "the port's number is missing",
    may: (line) => /^\s*- name: http$/.test(line),
    make: (line) => [line],
    drop: 1,
  },
  {
    name: "one space too few",
    may: (line, lines, at) =>
      /^\s{2,}[a-z][A-Za-z]+: \S/.test(line) && /^\s*/.exec(lines[at - 1])[0] === /^\s*/.exec(line)[0],
    make: (line) => [line.slice(1)],
  },
  {
    name: "two spaces too many",
    may: (line, lines, at) =>
      /^\s{2,}[a-z][A-Za-z]+: \S/.test(line) &&
      /: \S/.test(lines[at - 1]) &&
      /^\s*/.exec(lines[at - 1])[0] === /^\s*/.exec(line)[0],
    make: (line) => [`  ${line}`],
  },
  {
    name: "a tab",
    may: (line) => /^\s{2,}[a-z][A-Za-z]+: \S/.test(line),
    make: (line) => [line.replace(/^ +/, "\t")],
  },
  {
    name: "no colon",
    may: (line) => /^\s*(- )?[a-z][A-Za-z]+: [a-zA-Z]/.test(line),
    make: (line) => [line.replace(":", "")],
  },
  {
    name: "no space after the colon",
    may: (line) => /^\s*[a-z][A-Za-z]+: [a-z]+$/.test(line),
    make: (line) => [line.replace(": ", ":")],
  },
  {
    name: "a quote that is not closed",
    may: (line) => /^\s*(- )?[a-z][A-Za-z]+: [a-zA-Z/]+$/.test(line),
    make: (line) => [line.replace(": ", ': "')],
  },
  {
    name: "a bracket that is not closed",
    may: (line) => /\]$/.test(line),
    make: (line) => [line.slice(0, -1)],
  },
  {
    name: "a field twice",
    may: (line) => /^\s*[a-z][A-Za-z]+: \S/.test(line),
    make: (line) => [line, line],
    at: 1,
  },
  {
    name: "another kind",
    may: (line) => /^kind: /.test(line),
    make: (line) => [`${line.slice(0, -2)}t`],
  },
  {
    name: "another version",
    may: (line) => /^apiVersion: /.test(line),
    make: (line) => [line.replace(/v1$/, "v9")],
  },
];

function spoil(fault, next) {
  for (let round = 0; round < 50; round += 1) {
    const lines = ALL[next(ALL.length)].trimEnd().split("\n");
    const places = lines.map((_, at) => at).filter((at) => at > 0 || /^apiVersion/.test(lines[at]));
    const may = places.filter((at) => fault.may(lines[at], lines, at));
    if (may.length === 0) continue;
    const at = may[next(may.length)];
    const made = fault.make(lines[at], next);
    lines.splice(at, 1 + (fault.drop ?? 0), ...made);
    return { name: fault.name, lines, wrong: at + (fault.at ?? 0) };
  }
  throw new Error(`no place for: ${fault.name}`);
}

/** One text of many documents: each fault's name, its document's lines and its own line. */
export function faults(seed, count) {
  const next = numbers(seed);
  const all = [];
  const text = [];
  for (let number = 0; number < count; number += 1) {
    const made = spoil(FAULTS[number % FAULTS.length], next);
    const first = text.length + 1;
    all.push({ name: made.name, first, last: first + made.lines.length - 1, line: first + made.wrong });
    text.push(...made.lines, "---");
  }
  return { text: `${text.slice(0, -1).join("\n")}\n`, faults: all };
}

/** The same documents without any. */
export const whole = () => ALL.join("---\n");
