/** A build that only records its steps. Its scenario defines faults, and the content of files. */
class Recorded extends Build {
  private final Map scenario
  private final List<Map> events = []
  private final List<Map> bound = []
  private final Set<String> stashed = new LinkedHashSet<String>()
  private final Map<String, Integer> attempts = [:]

  Recorded(Map scenario) {
    super((String) scenario.branch)
    this.scenario = scenario
  }

  @Override Map run(Section pipeline) { [name: scenario.name] + super.run(pipeline) + [events: events] }

  @Override void skipped(Section section) { record('skipped', section.name) }
  @Override void entered(Section section) { }
  @Override void stepsEnded(Section section) { }
  @Override void left(Section section, String outcome) { }

  @Override void shell(String script) {
    recordOnAgent('sh', script)
    Map fault = scenario.faults.find { script.contains((String) it.at) }
    if (fault == null) return
    attempts[(String) fault.at] = (attempts[(String) fault.at] ?: 0) + 1
    if (fault.times != null && attempts[(String) fault.at] > fault.times) return
    if (fault.stopped) throw new Stopped('somebody stopped it')
    throw new StepFailed("script returned exit code ${fault.code ?: 2}")
  }

  @Override void echo(String text) { record('echo', text) }
  @Override void junit(Map options) { recordOnAgent('junit', (String) options.testResults) }
  @Override void coverage(Map options) { recordOnAgent('recordCoverage', (String) options.tools[0].pattern) }
  @Override void archive(Map options) { recordOnAgent('archiveArtifacts', (String) options.artifacts) }

  @Override void stash(Map options) {
    recordOnAgent('stash', (String) options.name)
    stashed.add((String) options.name)
  }

  @Override void unstash(String name) {
    recordOnAgent('unstash', name)
    if (!stashed.contains(name)) throw new StepFailed("no stash ${name}")
  }

  @Override boolean exists(String path) { files().containsKey(path) }
  @Override String read(String path) { files().get(path) }

  @Override void credentials(List<Map> bindings, Closure body) {
    bound.addAll(bindings)
    try {
      body.call()
    } finally {
      bindings.size().times { bound.removeLast() }
    }
  }

  @Override void sonarqube(String server, Closure body) {
    credentials([[id: 'server ' + server, variables: ['SONAR_HOST_URL', 'SONAR_AUTH_TOKEN']]], body)
  }

  @Override void gate(boolean abortPipeline) {
    record('waitForQualityGate', "abortPipeline: ${abortPipeline}".toString())
    String gate = scenario.gate ?: 'OK'
    if (gate == 'timeout') throw new Stopped('the quality gate did not answer in time')
    if (gate != 'OK' && abortPipeline) throw new StepFailed("quality gate: ${gate}")
  }

  private Map files() { scenario.files ?: [:] }

  private void recordOnAgent(String step, String argument) {
    record(step, argument)
    requireAgent(step)
  }

  private void record(String step, String argument) {
    events.add([stage: stages.empty ? '' : stages.last(), step: step, what: argument,
                agent: agents.empty ? null : agents.last(), credentials: bound*.id,
                variables: bound.collectMany { it.variables }])
  }
}
