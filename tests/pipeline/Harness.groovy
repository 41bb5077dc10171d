// Runs a declarative Jenkinsfile as Jenkins would, with recorded steps instead of real ones:
//   groovy Harness.groovy JENKINSFILE SCENARIOS
// SCENARIOS is JSON: a list of builds, each with a name, a branch, and what goes wrong. The answer is JSON on stdout: how
// each build ended and what it did, in order. It knows the sections, conditions and steps below and no others, so that a
// misspelled one is an error here and not in a build.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper

/** A step failed: the build does. */
class StepFailed extends RuntimeException { StepFailed(String why) { super(why) } }

/** Somebody stopped the build, or its time was over. */
class Stopped extends RuntimeException { Stopped(String why) { super(why) } }

class Dsl {
  /** Calls the body with the delegate's methods and no others. */
  static Object within(Object delegate, Closure body) {
    Closure own = (Closure) body.clone()
    own.delegate = delegate
    own.resolveStrategy = Closure.DELEGATE_ONLY
    own.call()
  }
}

/** What a pipeline or a stage says. */
class Section {
  String name
  String agent
  Closure when
  Closure steps
  List<Section> stages = []
  Map<String, Closure> post = [:]
  Map<String, Object> options = [:]
  Map<String, String> environment = [:]

  Map outline() {
    [name: name, agent: agent, options: options, environment: environment, conditional: when != null,
     post: post.keySet(), stages: stages*.outline()]
  }
}

class SectionReader {
  private final Section section
  SectionReader(Section section) { this.section = section }
  String getNone() { 'none' }
  String getAny() { 'any' }
  void agent(String which) { section.agent = which }
  void agent(Closure body) { Dsl.within(new AgentReader(section), body) }
  void options(Closure body) { Dsl.within(new OptionReader(section.options), body) }
  void environment(Closure body) { Dsl.within(new EnvironmentReader(section.environment), body) }
  void when(Closure body) { section.when = body }
  void steps(Closure body) { section.steps = body }
  void stages(Closure body) { Dsl.within(new StagesReader(section), body) }
  void post(Closure body) { Dsl.within(new PostReader(section.post), body) }
}

class AgentReader {
  private final Section section
  AgentReader(Section section) { this.section = section }
  void label(String label) { section.agent = label }
}

class OptionReader {
  private final Map<String, Object> options
  OptionReader(Map<String, Object> options) { this.options = options }
  Map logRotator(Map given) { given }
  void timestamps() { options.timestamps = true }
  void disableConcurrentBuilds() { options.disableConcurrentBuilds = true }
  void buildDiscarder(Map rotator) { options.buildDiscarder = rotator }
  void timeout(Map given) { options.timeout = given }
}

class EnvironmentReader {
  private final Map<String, String> values
  EnvironmentReader(Map<String, String> values) { this.values = values }
  @Override void setProperty(String name, Object value) { values.put(name, (String) value) }
}

class StagesReader {
  private final Section section
  StagesReader(Section section) { this.section = section }
  void stage(String name, Closure body) {
    Section stage = new Section(name: name)
    Dsl.within(new SectionReader(stage), body)
    if (stage.steps == null && stage.stages.empty) throw new IllegalStateException("stage ${name} does nothing")
    section.stages.add(stage)
  }
}

class PostReader {
  private final Map<String, Closure> post
  PostReader(Map<String, Closure> post) { this.post = post }
  void always(Closure body) { post.always = body }
  void success(Closure body) { post.success = body }
  void failure(Closure body) { post.failure = body }
  void aborted(Closure body) { post.aborted = body }
  void unsuccessful(Closure body) { post.unsuccessful = body }
  void cleanup(Closure body) { post.cleanup = body }
}

class Condition {
  private final String branchName
  private boolean holding = true
  Condition(String branchName) { this.branchName = branchName }
  boolean holds() { holding }
  void beforeAgent(boolean first) { }
  void branch(String name) { holding = holding && branchName == name }
  void changeRequest() { holding = holding && branchName.startsWith('PR-') }
  void not(Closure body) {
    Condition inner = new Condition(branchName)
    Dsl.within(inner, body)
    holding = holding && !inner.holds()
  }
}

class CurrentBuild { String description = '' }

/** The steps, as a stage's `steps` and `post` see them. */
class Steps {
  private final Build build
  Steps(Build build) { this.build = build }
  CurrentBuild getCurrentBuild() { build.current }
  void sh(String script) { build.shell(script) }
  void echo(String text) { build.record('echo', text) }
  void error(String text) { build.record('error', text); throw new StepFailed(text) }
  void junit(Map given) { build.onAgent('junit', (String) given.testResults) }
  void recordCoverage(Map given) { build.onAgent('recordCoverage', (String) given.tools[0].pattern) }
  void archiveArtifacts(Map given) { build.onAgent('archiveArtifacts', (String) given.artifacts) }
  void stash(Map given) { build.onAgent('stash', (String) given.name); build.stashed.add((String) given.name) }
  void unstash(String name) {
    build.onAgent('unstash', name)
    if (!build.stashed.contains(name)) throw new StepFailed("no stash ${name}")
  }
  boolean fileExists(String path) { build.files().containsKey(path) }
  String readFile(String path) { build.files().get(path) }
  Map string(Map given) { [id: given.credentialsId, variables: [given.variable]] }
  Map file(Map given) { [id: given.credentialsId, variables: [given.variable]] }
  Map usernamePassword(Map given) {
    [id: given.credentialsId, variables: [given.usernameVariable, given.passwordVariable]]
  }
  void withCredentials(List<Map> bound, Closure body) { build.bound(bound) { Dsl.within(this, body) } }
  void withSonarQubeEnv(String server, Closure body) {
    build.bound([[id: 'server ' + server, variables: ['SONAR_HOST_URL', 'SONAR_AUTH_TOKEN']]]) { Dsl.within(this, body) }
  }
  void waitForQualityGate(Map given) {
    build.record('waitForQualityGate', "abortPipeline: ${given.abortPipeline}".toString())
    String gate = build.scenario.gate ?: 'OK'
    if (gate == 'timeout') throw new Stopped('the quality gate did not answer in time')
    if (gate != 'OK' && given.abortPipeline) throw new StepFailed("quality gate: ${gate}")
  }
  void script(Closure body) { Dsl.within(this, body) }
  void retry(int times, Closure body) {
    for (int attempt = 1; ; attempt++) {
      try {
        Dsl.within(this, body)
        return
      } catch (StepFailed failed) {
        if (attempt == times) throw failed
      }
    }
  }
}

class Build {
  final Map scenario
  final CurrentBuild current = new CurrentBuild()
  final Set<String> stashed = new LinkedHashSet<String>()
  private final List<Map> events = []
  private final List<Map> credentials = []
  private final List<String> stages = []
  private final List<String> agents = []
  private final Map<String, Integer> tried = [:]
  private final Steps steps = new Steps(this)

  Build(Map scenario) { this.scenario = scenario }

  Map files() { scenario.files ?: [:] }

  void record(String step, String what) {
    events.add([stage: stages.empty ? '' : stages.last(), step: step, what: what,
                agent: agents.empty ? null : agents.last(), credentials: credentials*.id,
                variables: credentials.collectMany { it.variables }])
  }

  void onAgent(String step, String what) {
    record(step, what)
    if (agents.empty) throw new StepFailed("${step} needs an agent")
  }

  void bound(List<Map> given, Closure body) {
    if (given.any { !it.id || it.variables.any { name -> !name } }) throw new StepFailed("credentials: ${given}")
    credentials.addAll(given)
    try {
      body.call()
    } finally {
      given.size().times { credentials.removeLast() }
    }
  }

  void shell(String script) {
    onAgent('sh', script)
    Map fault = scenario.faults.find { script.contains((String) it.at) }
    if (fault == null) return
    tried[(String) fault.at] = (tried[(String) fault.at] ?: 0) + 1
    if (fault.times != null && tried[(String) fault.at] > fault.times) return
    if (fault.stopped) throw new Stopped('somebody stopped it')
    throw new StepFailed("script returned exit code ${fault.code ?: 2}")
  }

  Map run(Section pipeline) {
    String result = 'SUCCESS'
    String why = ''
    try {
      section(pipeline)
    } catch (StepFailed failed) {
      result = 'FAILURE'
      why = failed.message
    } catch (Stopped stopped) {
      result = 'ABORTED'
      why = stopped.message
    }
    [name: scenario.name, result: result, why: why, description: current.description, events: events]
  }

  private void section(Section section) {
    if (section.when != null && !holds(section)) {
      record('skipped', section.name)
      return
    }
    if (section.name != null) stages.add(section.name)
    boolean held = section.agent != null && section.agent != 'none'
    if (held) agents.add(section.agent)
    String outcome = 'success'
    try {
      section.stages.each { this.section(it) }
      if (section.steps != null) Dsl.within(steps, section.steps)
    } catch (StepFailed failed) {
      outcome = 'failure'
      throw failed
    } catch (Stopped stopped) {
      outcome = 'aborted'
      throw stopped
    } finally {
      post(section, outcome)
      if (held) agents.removeLast()
      if (section.name != null) stages.removeLast()
    }
  }

  private boolean holds(Section section) {
    Condition condition = new Condition((String) scenario.branch)
    Dsl.within(condition, section.when)
    condition.holds()
  }

  private void post(Section section, String outcome) {
    List<String> wanted = ['always', outcome] + (outcome == 'success' ? [] : ['unsuccessful']) + ['cleanup']
    wanted.each { name -> if (section.post[name] != null) Dsl.within(steps, section.post[name]) }
  }
}

Section pipeline = new Section()
Binding binding = new Binding([pipeline: { Closure body -> Dsl.within(new SectionReader(pipeline), body) }])
new GroovyShell(this.class.classLoader, binding).evaluate(new File(args[0]))
List builds = new JsonSlurper().parse(new File(args[1])).collect { new Build((Map) it).run(pipeline) }
println JsonOutput.toJson([outline: pipeline.outline(), builds: builds])
