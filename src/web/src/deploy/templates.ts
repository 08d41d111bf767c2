// What a new application begins with.

const pod = (name: string, indent: string): string =>
  [
    "metadata:",
    "  labels:",
    `    app: ${name}`,
    "spec:",
    "  containers:",
    `  - name: ${name}`,
    '    image: ""',
    "    ports:",
    "    - name: http",
    "      containerPort: 8080",
    "    resources:",
    "      requests:",
    "        cpu: 100m",
    "        memory: 128Mi",
  ]
    .map((line) => indent + line)
    .join("\n");

const service = (name: string, more = ""): string => `apiVersion: v1
kind: Service
metadata:
  name: ${name}
  labels:
    app: ${name}
spec:
${more}  selector:
    app: ${name}
  ports:
  - name: http
    port: 80
    targetPort: http
`;

const workload = (kind: string, name: string, more: string): string => `apiVersion: apps/v1
kind: ${kind}
metadata:
  name: ${name}
  labels:
    app: ${name}
spec:
  replicas: 2
${more}  selector:
    matchLabels:
      app: ${name}
  template:
${pod(name, "    ")}
`;

export const TEMPLATES = {
  deployment: (name: string): string => `${workload("Deployment", name, "")}---\n${service(name)}`,
  statefulSet: (name: string): string => {
    const set = workload("StatefulSet", name, `  serviceName: ${name}\n`);
    const mounts = "        volumeMounts:\n        - name: data\n          mountPath: /data\n";
    const claims = `  volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      resources:
        requests:
          storage: 1Gi
`;
    return `${set}${mounts}${claims}---\n${service(name, "  clusterIP: None\n")}`;
  },
  cronJob: (name: string): string => `apiVersion: batch/v1
kind: CronJob
metadata:
  name: ${name}
  labels:
    app: ${name}
spec:
  schedule: "0 2 * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        metadata:
          labels:
            app: ${name}
        spec:
          restartPolicy: OnFailure
          containers:
          - name: ${name}
            image: ""
            resources:
              requests:
                cpu: 100m
                memory: 128Mi
`,
} as const;

export type Template = keyof typeof TEMPLATES;
