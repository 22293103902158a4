{{/* The fields that the fleet's pod and the job's share. */}}
{{- define "busmon.pod" -}}
automountServiceAccountToken: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
# A Service named busmon would give the pod variables such as BUSMON_PORT, which look like settings.
enableServiceLinks: false
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "busmon.container" -}}
image: {{ include "busmon.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{/* The files of a busmon.toml: its settings, a topology, catalogues. */}}
{{- define "busmon.files" -}}
busmon.toml: |
  {{- range $name, $value := .Values.settings }}
  {{ $name }} = {{ toJson $value }}
  {{- end }}
  {{- if .Values.replication.enabled }}
  replication = "stream"
  {{- end }}
  {{- if .Values.topology.file }}
  topology = "/etc/busmon/config/topology.toml"
  {{- end }}
  {{- if .Values.catalogue }}
  catalogue = [{{ range $index, $name := keys .Values.catalogue | sortAlpha }}{{ if $index }}, {{ end }}"/etc/busmon/config/{{ $name }}"{{ end }}]
  {{- end }}
{{- with .Values.topology.file }}
topology.toml: {{ toJson . }}
{{- end }}
{{- range $name, $text := .Values.catalogue }}
{{ $name }}: {{ toJson $text }}
{{- end }}
{{- end }}

{{/* Sources of a projected volume with a file for each URL that has a secret. */}}
{{- define "busmon.urls" -}}
{{- range $name, $from := . }}
{{- if $from.secret }}
- secret:
    name: {{ $from.secret }}
    items: [{ key: {{ $from.key | quote }}, path: {{ $name }} }]
{{- end }}
{{- end }}
{{- end }}

{{/* Variables that name these files. */}}
{{- define "busmon.urls.env" -}}
{{- range $name, $from := . }}
{{- if $from.secret }}
- name: BUSMON_{{ upper $name }}_URL_FILE
  value: /etc/busmon/urls/{{ $name }}
{{- end }}
{{- end }}
{{- end }}
