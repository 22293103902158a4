{{/* The template of the fleet's pods: of the one of a StatefulSet, or of the several of a Deployment. */}}
{{- define "busmon.fleet" -}}
metadata:
  labels: {{- include "busmon.labels" . | nindent 4 }}
    app.kubernetes.io/component: fleet
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: fleet
    checksum/config: {{ include "busmon.files" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "busmon.pod" . | nindent 2 }}
  {{- if .Values.replication.enabled }}
  # On several nodes where there are several: a node's loss then costs one replica.
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "busmon.selector" . | nindent 10 }}
          app.kubernetes.io/component: fleet
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  initContainers:
    # Nobody else may write to the registry, and a volume's fsGroup may.
    - name: registry
      {{- include "busmon.container" . | nindent 6 }}
      command: [install, --directory, --mode, "0700", /var/lib/busmon/registry]
      volumeMounts:
        - { name: registry, mountPath: /var/lib/busmon }
  containers:
    - name: fleet
      {{- include "busmon.container" . | nindent 6 }}
      args: [up]
      env:
        - name: BUSMON_CONFIG
          value: /etc/busmon/config/busmon.toml
        - name: BUSMON_LISTEN
          value: {{ printf "%s:9797" .Values.listenAddress | quote }}
        {{- include "busmon.urls.env" .Values.urls | trim | nindent 8 }}
        {{- if .Values.web.secret }}
        - name: BUSMON_WEB_CONFIG_FILE
          value: /etc/busmon/web/web.yml
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - { name: metrics, containerPort: 9797 }
      startupProbe:
        httpGet: { path: /health, port: metrics, scheme: {{ upper .Values.web.scheme }} }
        {{- toYaml .Values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet: { path: /health, port: metrics, scheme: {{ upper .Values.web.scheme }} }
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet: { path: /-/ready, port: metrics, scheme: {{ upper .Values.web.scheme }} }
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      volumeMounts:
        - { name: registry, mountPath: /var/lib/busmon }
        - { name: tmp, mountPath: /tmp }
        - { name: config, mountPath: /etc/busmon/config, readOnly: true }
        - { name: urls, mountPath: /etc/busmon/urls, readOnly: true }
        {{- if .Values.tls.secret }}
        - { name: tls, mountPath: /etc/busmon/tls, readOnly: true }
        {{- end }}
        {{- if .Values.web.secret }}
        - { name: web, mountPath: /etc/busmon/web, readOnly: true }
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: { sizeLimit: 64Mi }
    - name: config
      configMap: { name: {{ include "busmon.fullname" . }} }
    - name: urls
      projected:
        defaultMode: 0440
        sources: {{- include "busmon.urls" .Values.urls | trim | nindent 10 }}
    {{- with .Values.tls.secret }}
    - name: tls
      secret: { secretName: {{ . }}, defaultMode: 0440 }
    {{- end }}
    {{- with .Values.web.secret }}
    - name: web
      secret: { secretName: {{ . }}, defaultMode: 0440 }
    {{- end }}
    {{- if .Values.replication.enabled }}
    # A cache of the logs: a pod that starts reads them again.
    - name: registry
      emptyDir: { sizeLimit: {{ .Values.persistence.size }} }
    {{- else if .Values.persistence.existingClaim }}
    - name: registry
      persistentVolumeClaim: { claimName: {{ .Values.persistence.existingClaim }} }
    {{- end }}
{{- end }}
