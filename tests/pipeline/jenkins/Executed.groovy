import groovy.json.JsonOutput
import groovy.json.JsonSlurper

import java.nio.file.FileSystems
import java.nio.file.FileVisitOption
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.PathMatcher
import java.nio.file.StandardCopyOption
import java.nio.file.attribute.PosixFilePermissions
import java.time.LocalTime
import java.time.format.DateTimeFormatter
import java.util.concurrent.TimeUnit

import javax.xml.parsers.DocumentBuilderFactory

/**
 * A build with steps that do their work.
 *
 * Each agent gets a new workspace, a fresh clone of the commit: the pipeline must stash what a later agent needs. The job has
 * branch, commit, number; the `repository` to clone; `folder`, an absolute path for workspaces, the archive and stashes;
 * `credentials` by their ids, each with its kind and values; `sonarqube`, servers by their names, each with url and token.
 * Commands have the environment of this process, and the variables that Jenkins adds.
 */
class Executed extends Build {
  private static final DateTimeFormatter CLOCK = DateTimeFormatter.ofPattern('HH:mm:ss')
  private static final long SECONDS_TO_END = 20
  private static final long POLL_SECONDS = 1
  private static final String MASK = '****'
  private static final List<String> KINDS = ['string', 'file', 'usernamePassword']

  private final Map job
  private final Path folder
  private final PrintStream events
  private final PrintStream console
  private final List<Path> workspaces = []
  private final List<Map<String, String>> environments = []
  private final List<String> secrets = []
  private final Map<Section, Deadline> deadlines = new IdentityHashMap<Section, Deadline>()
  private final List<Long> startTimes = []
  private boolean timestamps = false
  private Map analysis = null
  private Map activity = [:]
  private volatile String stopReason = null
  private volatile Process running = null

  Executed(Map job, PrintStream events, PrintStream console) {
    super((String) job.branch)
    this.job = job
    this.folder = Path.of((String) job.folder)
    this.events = events
    this.console = console
  }

  /** The end of a timeout; `of` is the name of the stage. */
  private static class Deadline {
    final String of
    private final long at
    Deadline(Map time, String of) {
      this.of = of
      this.at = System.nanoTime() + TimeUnit.valueOf((String) (time.unit ?: 'MINUTES')).toNanos((long) time.time)
    }
    long nanoseconds() { at - System.nanoTime() }
  }

  @Override Map run(Section pipeline) {
    timestamps = pipeline.options.timestamps
    Files.createDirectories(folder)
    Map ended = super.run(pipeline)
    log(ended.why ? "${ended.why}\nFinished: ${ended.result}" : "Finished: ${ended.result}")
    emit([event: 'ended'] + ended)
    ended
  }

  /** Called in another thread: ends the running command, and aborts the build. */
  void stop(String why) {
    stopReason = why
    if (running != null) end(running)
  }

  // Stages.

  @Override void skipped(Section section) {
    log("Stage \"${section.name}\" skipped due to when conditional")
    leaves(section).each { emit([event: 'skipped', stage: it.name]) }
  }

  private static List<Section> leaves(Section section) {
    section.stages.empty ? [section] : section.stages.collectMany { leaves(it) }
  }

  private static boolean holdsAgent(Section section) { section.agent != null && section.agent != 'none' }

  @Override void entered(Section section) {
    startTimes.add(System.nanoTime())
    environments.add([:] + section.environment)
    Map limit = (Map) section.options.timeout
    if (limit != null) deadlines.put(section, new Deadline(limit, section.name ?: 'the build'))
    if (section.name != null && section.stages.empty) {
      activity = [commands: [], notes: []]
      emit([event: 'entered', stage: section.name])
    }
    if (section.name != null) log("[Pipeline] { (${section.name})")
    if (holdsAgent(section)) {
      Path workspace = folder.resolve("workspace-${Files.list(folder).withCloseable { it.count() }}")
      workspaces.add(workspace)
      checkOut(workspace, environments.last())
    }
  }

  @Override void stepsEnded(Section section) { deadlines.remove(section) }

  @Override void left(Section section, String outcome) {
    if (holdsAgent(section)) workspaces.removeLast()
    environments.removeLast()
    long seconds = TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - startTimes.removeLast())
    if (section.name != null && section.stages.empty) {
      emit([event: 'left', stage: section.name, outcome: outcome, seconds: seconds] + activity)
    }
  }

  private void checkOut(Path workspace, Map<String, String> environment) {
    log("Checking out ${job.commit} into ${workspace.fileName}")
    execute('git', 'clone', '--quiet', (String) job.repository, workspace.toString())
    execute('git', '-C', workspace.toString(), 'checkout', '--quiet', '-B', branch, (String) job.commit)
    environment.putAll([
      GIT_COMMIT: (String) job.commit, GIT_BRANCH: branch, BRANCH_NAME: branch, WORKSPACE: workspace.toString(),
      JOB_NAME: 'orderflow', BUILD_NUMBER: (String) job.number, CI: 'true'] + environment)
  }

  private static void execute(String... command) {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start()
    String output = process.inputStream.text
    if (process.waitFor() != 0) throw new StepFailed("${command.join(' ')}: ${output.trim()}")
  }

  // The console, and the events.

  @Override void echo(String text) { log(text) }

  private synchronized void log(Object text) {
    String stamp = timestamps ? "[${LocalTime.now().format(CLOCK)}] " : ''
    mask(text.toString()).eachLine { String line -> console.println(stamp + line) }
    console.flush()
  }

  private void emit(Map event) {
    events.println(mask(JsonOutput.toJson(event)))
    events.flush()
  }

  /** Like Jenkins: replaces each bound secret with stars. The longest comes first, since one may be part of another. */
  private String mask(String text) {
    synchronized (secrets) {
      secrets.toUnique().sort { -it.length() }.inject(text) { String shown, String secret -> shown.replace(secret, MASK) }
    }
  }

  // Commands.

  @Override void shell(String script) {
    requireAgent('sh')
    checkStopped()
    activity.commands.add(script)
    Path file = Files.createTempFile(temporaryFolder(), 'script', '.sh')
    Files.writeString(file, script)
    ProcessBuilder builder = new ProcessBuilder('setsid', 'sh', '-xe', file.toString())
    builder.directory(workspaces.last().toFile()).redirectErrorStream(true).redirectInput(ProcessBuilder.Redirect.from(new File('/dev/null')))
    environments.each { builder.environment().putAll(it) }
    Process process = builder.start()
    running = process
    Thread reading = Thread.startDaemon { process.inputStream.eachLine { log(it) } }
    try {
      while (!process.waitFor(Math.max(0L, Math.min(TimeUnit.SECONDS.toNanos(POLL_SECONDS), remaining())), TimeUnit.NANOSECONDS)) {
        checkStopped()
      }
      // A process that the command left behind may keep its output open.
      reading.join(TimeUnit.SECONDS.toMillis(5))
      checkStopped()
    } catch (Stopped late) {
      end(process)
      throw late
    } finally {
      running = null
      Files.deleteIfExists(file)
    }
    if (process.exitValue() != 0) throw new StepFailed("script returned exit code ${process.exitValue()}")
  }

  /** Ends the command and all its processes: by SIGTERM, and after a while by SIGKILL. */
  private static void end(Process process) {
    signal(process, 'TERM')
    if (!process.waitFor(SECONDS_TO_END, TimeUnit.SECONDS)) signal(process, 'KILL')
    process.waitFor()
  }

  private static void signal(Process process, String name) {
    new ProcessBuilder('kill', '-s', name, '--', "-${process.pid()}".toString()).redirectErrorStream(true).start().waitFor()
  }

  private long remaining() { deadlines.values().collect { it.nanoseconds() }.min() ?: Long.MAX_VALUE }

  /** Throws Stopped where somebody stopped the build, or a timeout is exceeded; only once, so that `post` runs. */
  private void checkStopped() {
    String why = stopReason
    stopReason = null
    if (why != null) throw new Stopped(why)
    Section late = deadlines.find { it.value.nanoseconds() <= 0 }?.key
    if (late != null) throw new Stopped("Timeout has been exceeded: ${deadlines.remove(late).of}")
  }

  // Credentials.

  @Override void credentials(List<Map> bindings, Closure body) {
    Map<String, String> values = [:]
    List<String> hidden = []
    List<Path> files = []
    bindings.each { binding ->
      Map credential = (Map) job.credentials[binding.id]
      if (credential == null) throw new StepFailed("Could not find credentials entry with ID '${binding.id}'")
      if (credential.kind != binding.kind) throw new StepFailed("Credentials '${binding.id}' is of type '${credential.kind}' where '${binding.kind}' was expected")
      List<String> names = (List<String>) binding.variables
      if (binding.kind == 'usernamePassword') {
        values[names[0]] = credential.username
        values[names[1]] = credential.password
        hidden.add((String) credential.password)
      } else if (binding.kind == 'file') {
        Path file = Files.createTempFile(temporaryFolder(), 'secret', '', PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString('rw-------')))
        Files.write(file, ((String) credential.content).decodeBase64())
        files.add(file)
        values[names[0]] = file.toString()
        hidden.add(file.toString())
      } else {
        values[names[0]] = credential.secret
        hidden.add((String) credential.secret)
      }
    }
    log("Masking supported pattern matches of ${values.keySet().collect { '$' + it }.join(' or ')}")
    try {
      within(values, hidden, body)
    } finally {
      files.each { Files.deleteIfExists(it) }
    }
  }

  private void within(Map<String, String> values, List<String> hidden, Closure body) {
    environments.add(values)
    synchronized (secrets) { secrets.addAll(hidden.findAll()) }
    try {
      body.call()
    } finally {
      environments.removeLast()
      synchronized (secrets) { hidden.findAll().each { secrets.removeLast() } }
    }
  }

  /** A folder next to the workspace, for files that are not part of it. */
  private Path temporaryFolder() { Files.createDirectories(Path.of("${workspaces.empty ? folder.resolve('none') : workspaces.last()}@tmp")) }

  // SonarQube.

  @Override void sonarqube(String name, Closure body) {
    requireAgent('withSonarQubeEnv')
    Map server = (Map) job.sonarqube[name]
    if (server == null) throw new StepFailed("SonarQube installation defined in this job (${name}) does not match any configured installation")
    within([SONAR_CONFIG_NAME: name, SONAR_HOST_URL: (String) server.url, SONAR_AUTH_TOKEN: (String) server.token], [(String) server.token], body)
    Path report = Files.walk(workspaces.last(), 3).withCloseable { paths ->
      paths.filter { it.fileName.toString() == 'report-task.txt' }.findFirst().orElse(null)
    }
    if (report == null) return
    Properties properties = new Properties()
    report.toFile().withReader { properties.load(it) }
    analysis = [task: properties.getProperty('ceTaskId'), server: server]
  }

  @Override void gate(boolean abortPipeline) {
    if (analysis == null) throw new StepFailed("Unable to get SonarQube task id and/or server name. Please use the 'withSonarQubeEnv' wrapper to run your analysis.")
    log("Checking status of SonarQube task '${analysis.task}'")
    Map task = (Map) fetch("ce/task?id=${analysis.task}").task
    while (task.status in ['PENDING', 'IN_PROGRESS']) {
      checkStopped()
      TimeUnit.SECONDS.sleep(POLL_SECONDS)
      task = (Map) fetch("ce/task?id=${analysis.task}").task
    }
    if (task.status != 'SUCCESS') throw new StepFailed("SonarQube task '${analysis.task}' completed with status '${task.status}'")
    String status = fetch("qualitygates/project_status?analysisId=${task.analysisId}").projectStatus.status
    log("SonarQube task '${analysis.task}' completed. Quality gate is '${status}'")
    activity.notes.add("gate ${status}".toString())
    if (status != 'OK' && abortPipeline) throw new StepFailed("Pipeline aborted due to quality gate failure: ${status}")
  }

  private Map fetch(String path) {
    checkStopped()
    HttpURLConnection connection = (HttpURLConnection) new URI("${analysis.server.url}/api/${path}").toURL().openConnection(Proxy.NO_PROXY)
    connection.setRequestProperty('Authorization', "Bearer ${analysis.server.token}")
    connection.connectTimeout = connection.readTimeout = 30_000
    try {
      return (Map) new JsonSlurper().parse(connection.inputStream)
    } catch (IOException failed) {
      throw new StepFailed("SonarQube does not answer api/${path}: ${failed.message}")
    }
  }

  // Files and reports.

  @Override boolean exists(String path) {
    requireAgent('fileExists')
    Files.exists(workspaces.last().resolve(path))
  }

  @Override String read(String path) {
    requireAgent('readFile')
    Files.readString(workspaces.last().resolve(path))
  }

  @Override void junit(Map options) {
    requireAgent('junit')
    Map<String, Integer> counts = [tests: 0, failures: 0, errors: 0, skipped: 0]
    List<Path> reports = matching((String) options.testResults)
    reports.each { report ->
      List suites = elements(report, 'testsuite')
      suites.each { suite -> counts.keySet().each { counts[it] += (suite.getAttribute(it) ?: '0') as int } }
    }
    if (counts.tests == 0 && !options.allowEmptyResults) throw new StepFailed('No test report files were found. Configuration error?')
    if (counts.tests == 0) return
    String note = "${counts.tests} tests, ${counts.failures + counts.errors} failed, ${counts.skipped} skipped"
    log("Recording test results: ${note}")
    activity.notes.add(note)
    if (counts.failures + counts.errors > 0) unstable = true
  }

  @Override void coverage(Map options) {
    requireAgent('recordCoverage')
    options.tools.each { Map tool ->
      if (tool.parser != 'COBERTURA') throw new StepFailed("no parser ${tool.parser}")
      List<Path> reports = matching((String) tool.pattern)
      if (reports.empty) log("[Coverage] no files found for pattern ${tool.pattern}")
      reports.each { report ->
        BigDecimal rate = (elements(report, 'coverage').first().getAttribute('line-rate') as BigDecimal) * 100
        String note = "${rate.setScale(1, java.math.RoundingMode.HALF_UP)} % of lines covered"
        log("[Coverage] ${note}")
        activity.notes.add(note)
      }
    }
  }

  private static List elements(Path report, String name) {
    DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance()
    factory.setFeature('http://apache.org/xml/features/nonvalidating/load-external-dtd', false)
    def nodes = report.toFile().withInputStream { factory.newDocumentBuilder().parse(it) }.getElementsByTagName(name)
    (0..<nodes.length).collect { nodes.item(it) }
  }

  @Override void archive(Map options) {
    requireAgent('archiveArtifacts')
    List<Path> files = matching((String) options.artifacts)
    if (files.empty && !options.allowEmptyArchive) throw new StepFailed("No artifacts found that match the file pattern \"${options.artifacts}\"")
    log("Archiving artifacts: ${files.size()}")
    copy(files, workspaces.last(), folder.resolve('archive'))
  }

  @Override void stash(Map options) {
    requireAgent('stash')
    List<Path> files = matching((String) options.includes)
    if (files.empty) throw new StepFailed("No files included in stash '${options.name}'")
    copy(files, workspaces.last(), folder.resolve("stash-${options.name}"))
    log("Stashed ${files.size()} file(s)")
  }

  @Override void unstash(String name) {
    requireAgent('unstash')
    Path stash = folder.resolve("stash-${name}")
    if (!Files.isDirectory(stash)) throw new StepFailed("No such saved stash '${name}'")
    List<Path> files = Files.walk(stash).withCloseable { paths -> paths.filter { Files.isRegularFile(it) }.toList() }
    copy(files, stash, workspaces.last())
  }

  private static void copy(List<Path> files, Path from, Path to) {
    files.each { file ->
      Path target = to.resolve(from.relativize(file).toString())
      Files.createDirectories(target.parent)
      Files.copy(file, target, StandardCopyOption.REPLACE_EXISTING)
    }
  }

  /** The files of the workspace that match one of the patterns, which are separated by commas. */
  private List<Path> matching(String patterns) {
    Path workspace = workspaces.last()
    List<PathMatcher> matchers = patterns.split(',').collect { FileSystems.default.getPathMatcher('glob:' + it.trim()) }
    // All patterns begin with the name of a folder. Other folders, as .venv, are large.
    Set<String> tops = patterns.split(',').collect { it.trim().split('/').first() } as Set
    tops.collect { workspace.resolve(it) }.findAll { Files.exists(it) }.collectMany { top ->
      Files.walk(top, 8).withCloseable { paths ->
        paths.filter { Files.isRegularFile(it) && matchers.any { pattern -> pattern.matches(workspace.relativize(it)) } }.sorted().toList()
      }
    }
  }
}
