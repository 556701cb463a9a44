"""A user's KFP component with a container image of its own, as KFP's compiler writes one.

Its command is plain ``sh``, so that it also runs where no image can be pulled.
"""

from __future__ import annotations

IMAGE = "alpine:3.22"
SHOUT = """\
components:
  comp-shout:
    executorLabel: exec-shout
    inputDefinitions:
      artifacts:
        greeting: {artifactType: {schemaTitle: system.Artifact, schemaVersion: 0.0.1}}
      parameters:
        mark: {parameterType: STRING}
        times: {parameterType: NUMBER_INTEGER, defaultValue: 1.0, isOptional: true}
    outputDefinitions:
      artifacts:
        loud: {artifactType: {schemaTitle: system.Artifact, schemaVersion: 0.0.1}}
      parameters:
        length: {parameterType: NUMBER_INTEGER}
deploymentSpec:
  executors:
    exec-shout:
      container:
        image: alpine:3.22
        command: [sh, -ec]
        args:
        - |
          tr a-z A-Z < "$0" | sed 's/TEXT/text/; s/"}/'"$2"'"}/' > "$1"
          [ "$3" -lt 9 ] || exit 7
          wc -c < "$1" | tr -d ' \\n' > "$4"
        - "{{$.inputs.artifacts['greeting'].path}}"
        - "{{$.outputs.artifacts['loud'].path}}"
        - "{{$.inputs.parameters['mark']}}"
        - "{{$.inputs.parameters['times']}}"
        - "{{$.outputs.parameters['length'].output_file}}"
pipelineInfo: {name: shout}
root:
  dag:
    outputs:
      artifacts:
        loud: {artifactSelectors: [{outputArtifactKey: loud, producerSubtask: shout}]}
      parameters:
        length: {valueFromParameter: {outputParameterKey: length, producerSubtask: shout}}
    tasks:
      shout:
        cachingOptions: {enableCache: true}
        componentRef: {name: comp-shout}
        inputs:
          artifacts:
            greeting: {componentInputArtifact: greeting}
          parameters:
            mark: {componentInputParameter: mark}
            times: {componentInputParameter: times}
        taskInfo: {name: shout}
  inputDefinitions:
    artifacts:
      greeting: {artifactType: {schemaTitle: system.Artifact, schemaVersion: 0.0.1}}
    parameters:
      mark: {parameterType: STRING}
      times: {parameterType: NUMBER_INTEGER, defaultValue: 1.0, isOptional: true}
  outputDefinitions:
    artifacts:
      loud: {artifactType: {schemaTitle: system.Artifact, schemaVersion: 0.0.1}}
    parameters:
      length: {parameterType: NUMBER_INTEGER}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"""
STEPS = """\
  s0: {use: say, with: {text: hi}}
  s1:
    use: components/shout.yaml
    takes: {greeting: s0.out}
    with: {mark: "!"}
  s2: {use: pass_on, takes: {in: s1.loud}, with: {text: " there"}}
"""
