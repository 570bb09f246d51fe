{{/* Names, labels and what several pods have in common. */}}

{{- define "adaptive.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "adaptive.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "adaptive.selector" . }}
{{- end -}}

{{- define "adaptive.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "adaptive.image" -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}

{{/* Of a pod: nobody is root, and nobody gets a token for the API server. */}}
{{- define "adaptive.pod" -}}
serviceAccountName: {{ include "adaptive.name" .root }}
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "adaptive.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where a pod runs, and on which device. */}}
{{- define "adaptive.placed" -}}
{{- if and .part.gpu.enabled .part.gpu.runtimeClassName }}
runtimeClassName: {{ .part.gpu.runtimeClassName }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "adaptive.resources" -}}
requests:
  {{- toYaml .resources.requests | nindent 2 }}
  {{- if and .gpu.enabled .gpu.resource }}
  {{ .gpu.resource }}: {{ .gpu.count }}
  {{- end }}
limits:
  {{- toYaml .resources.limits | nindent 2 }}
  {{- if and .gpu.enabled .gpu.resource }}
  {{ .gpu.resource }}: {{ .gpu.count }}
  {{- end }}
{{- end -}}

{{/* Where the queue is, for whoever uses it; its password by reference. */}}
{{- define "adaptive.queue.host" -}}
{{- if eq .Values.queue.kind "trial" -}}
{{ include "adaptive.name" . }}-queue
{{- else -}}
{{ required "queue.external.host names your Redis" .Values.queue.external.host }}
{{- end -}}
{{- end -}}

{{- define "adaptive.queue.port" -}}
{{- if eq .Values.queue.kind "trial" }}6379{{ else }}{{ .Values.queue.external.port }}{{ end -}}
{{- end -}}

{{- define "adaptive.queue.secret" -}}
{{- if eq .Values.queue.kind "external" }}{{ .Values.queue.external.passwordSecret.name }}{{ end -}}
{{- end -}}

{{- define "adaptive.queue.env" -}}
{{- $secret := include "adaptive.queue.secret" . -}}
{{- $scheme := "redis" -}}
{{- if and (eq .Values.queue.kind "external") .Values.queue.external.tls }}{{ $scheme = "rediss" }}{{ end -}}
{{- if $secret }}
- name: QUEUE_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ .Values.queue.external.passwordSecret.key }}}
{{- end }}
- name: ADAPTIVE_QUEUE
  value: "{{ $scheme }}://{{ if $secret }}:$(QUEUE_PASSWORD)@{{ end }}{{ include "adaptive.queue.host" . }}:{{ include "adaptive.queue.port" . }}/{{ .Values.queue.database }}"
{{- end -}}

{{/* How the S3 store is reached. The trial's takes any key; yours come from a secret. */}}
{{- define "adaptive.s3.env" -}}
{{- if eq .Values.store.kind "trial" }}
- name: AWS_ENDPOINT_URL
  value: http://{{ include "adaptive.name" . }}-store:8333
- name: AWS_ACCESS_KEY_ID
  value: trial
- name: AWS_SECRET_ACCESS_KEY
  value: trial
- name: AWS_DEFAULT_REGION
  value: us-east-1
{{- else }}
{{- with .Values.store.external }}
{{- with .endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . }}
{{- end }}
{{- with .region }}
- name: AWS_DEFAULT_REGION
  value: {{ . }}
{{- end }}
{{- if .secret.name }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .secret.name }}, key: {{ .secret.accessKey }}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .secret.name }}, key: {{ .secret.secretKey }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "adaptive.store.env" -}}
{{ include "adaptive.s3.env" . }}
- name: ADAPTIVE_STORE
  value: s3://{{ .Values.store.bucket }}{{ with .Values.store.prefix }}/{{ . }}{{ end }}
{{- end -}}

{{/* Where nothing else can be written. */}}
{{- define "adaptive.home" -}}
- name: HOME
  value: /tmp
- name: XDG_CACHE_HOME
  value: /cache
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
{{- end -}}
