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
 * A build whose steps do their work.
 *
 * Each agent gets a workspace of its own, a fresh clone of the commit: what a later one needs has to be stashed. Given are:
 * branch, commit, number; `repository`, which is cloned; `folder`, an absolute path, which gets the workspaces, the archive
 * and the stashes; `credentials` by their ids, each with its kind and values; `sonarqube`, servers by their names, each with
 * url and token. Commands see this process' environment, and what Jenkins adds to it.
 */
class Executed extends Build {
  private static final DateTimeFormatter CLOCK = DateTimeFormatter.ofPattern('HH:mm:ss')
  private static final long SECONDS_TO_END = 20
  private static final long SECONDS_BETWEEN_LOOKS = 1
  private static final String MASK = '****'
  private static final List<String> KINDS = ['string', 'file', 'usernamePassword']

  private final Map given
  private final Path folder
  private final PrintStream events
  private final PrintStream console
  private final List<Path> workspaces = []
  private final List<Map<String, String>> environments = []
  private final List<String> secrets = []
  private final Map<Section, Deadline> deadlines = new IdentityHashMap<Section, Deadline>()
  private final List<Long> begun = []
  private boolean stamped = false
  private Map analysis = null
  private Map did = [:]
  private volatile String stopped = null
  private volatile Process running = null

  Executed(Map given, PrintStream events, PrintStream console) {
    super((String) given.branch)
    this.given = given
    this.folder = Path.of((String) given.folder)
    this.events = events
    this.console = console
  }

  /** When something has lasted long enough. */
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
    stamped = pipeline.options.timestamps
    Files.createDirectories(folder)
    Map ended = super.run(pipeline)
    say(ended.why ? "${ended.why}\nFinished: ${ended.result}" : "Finished: ${ended.result}")
    tell([event: 'ended'] + ended)
    ended
  }

  /** From another thread: what runs is ended, and the build is aborted. */
  void stop(String why) {
    stopped = why
    if (running != null) end(running)
  }

  // Stages.

  @Override void skipped(Section section) {
    say("Stage \"${section.name}\" skipped due to when conditional")
    leaves(section).each { tell([event: 'skipped', stage: it.name]) }
  }

  private static List<Section> leaves(Section section) {
    section.stages.empty ? [section] : section.stages.collectMany { leaves(it) }
  }

  private static boolean holdsAgent(Section section) { section.agent != null && section.agent != 'none' }

  @Override void entered(Section section) {
    begun.add(System.nanoTime())
    environments.add([:] + section.environment)
    Map limit = (Map) section.options.timeout
    if (limit != null) deadlines.put(section, new Deadline(limit, section.name ?: 'the build'))
    if (section.name != null && section.stages.empty) {
      did = [commands: [], notes: []]
      tell([event: 'entered', stage: section.name])
    }
    if (section.name != null) say("[Pipeline] { (${section.name})")
    if (holdsAgent(section)) {
      Path workspace = folder.resolve("workspace-${Files.list(folder).withCloseable { it.count() }}")
      workspaces.add(workspace)
      checkOut(workspace, environments.last())
    }
  }

  @Override void over(Section section) { deadlines.remove(section) }

  @Override void left(Section section, String outcome) {
    if (holdsAgent(section)) workspaces.removeLast()
    environments.removeLast()
    long seconds = TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - begun.removeLast())
    if (section.name != null && section.stages.empty) {
      tell([event: 'left', stage: section.name, outcome: outcome, seconds: seconds] + did)
    }
  }

  private void checkOut(Path workspace, Map<String, String> environment) {
    say("Checking out ${given.commit} into ${workspace.fileName}")
    must('git', 'clone', '--quiet', (String) given.repository, workspace.toString())
    must('git', '-C', workspace.toString(), 'checkout', '--quiet', '-B', branch, (String) given.commit)
    environment.putAll([
      GIT_COMMIT: (String) given.commit, GIT_BRANCH: branch, BRANCH_NAME: branch, WORKSPACE: workspace.toString(),
      JOB_NAME: 'orderflow', BUILD_NUMBER: (String) given.number, CI: 'true'] + environment)
  }

  private static void must(String... command) {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start()
    String said = process.inputStream.text
    if (process.waitFor() != 0) throw new StepFailed("${command.join(' ')}: ${said.trim()}")
  }

  // The console, and what is told of the build.

  @Override void echo(String text) { say(text) }

  private synchronized void say(Object text) {
    String stamp = stamped ? "[${LocalTime.now().format(CLOCK)}] " : ''
    mask(text.toString()).eachLine { String line -> console.println(stamp + line) }
    console.flush()
  }

  private void tell(Map event) {
    events.println(mask(JsonOutput.toJson(event)))
    events.flush()
  }

  /** As Jenkins does: whatever was bound is shown as stars, the longest first, since one may be a part of another. */
  private String mask(String text) {
    synchronized (secrets) {
      secrets.toUnique().sort { -it.length() }.inject(text) { String shown, String secret -> shown.replace(secret, MASK) }
    }
  }

  // Commands.

  @Override void shell(String script) {
    onAgent('sh')
    look()
    did.commands.add(script)
    Path file = Files.createTempFile(beside(), 'script', '.sh')
    Files.writeString(file, script)
    ProcessBuilder builder = new ProcessBuilder('setsid', 'sh', '-xe', file.toString())
    builder.directory(workspaces.last().toFile()).redirectErrorStream(true).redirectInput(ProcessBuilder.Redirect.from(new File('/dev/null')))
    environments.each { builder.environment().putAll(it) }
    Process process = builder.start()
    running = process
    Thread reading = Thread.startDaemon { process.inputStream.eachLine { say(it) } }
    try {
      while (!process.waitFor(Math.max(0L, Math.min(TimeUnit.SECONDS.toNanos(SECONDS_BETWEEN_LOOKS), remaining())), TimeUnit.NANOSECONDS)) {
        look()
      }
      // What a command left running may hold its output open.
      reading.join(TimeUnit.SECONDS.toMillis(5))
      look()
    } catch (Stopped late) {
      end(process)
      throw late
    } finally {
      running = null
      Files.deleteIfExists(file)
    }
    if (process.exitValue() != 0) throw new StepFailed("script returned exit code ${process.exitValue()}")
  }

  /** The command and whatever it started: asked first. */
  private static void end(Process process) {
    signal(process, 'TERM')
    if (!process.waitFor(SECONDS_TO_END, TimeUnit.SECONDS)) signal(process, 'KILL')
    process.waitFor()
  }

  private static void signal(Process process, String name) {
    new ProcessBuilder('kill', '-s', name, '--', "-${process.pid()}".toString()).redirectErrorStream(true).start().waitFor()
  }

  private long remaining() { deadlines.values().collect { it.nanoseconds() }.min() ?: Long.MAX_VALUE }

  /** Raises Stopped where somebody stopped it, or its time is over: once, since what comes after it is to be done. */
  private void look() {
    String why = stopped
    stopped = null
    if (why != null) throw new Stopped(why)
    Section late = deadlines.find { it.value.nanoseconds() <= 0 }?.key
    if (late != null) throw new Stopped("Timeout has been exceeded: ${deadlines.remove(late).of}")
  }

  // Credentials.

  @Override void credentials(List<Map> wanted, Closure body) {
    Map<String, String> values = [:]
    List<String> hidden = []
    List<Path> files = []
    wanted.each { one ->
      Map held = (Map) given.credentials[one.id]
      if (held == null) throw new StepFailed("Could not find credentials entry with ID '${one.id}'")
      if (held.kind != one.kind) throw new StepFailed("Credentials '${one.id}' is of type '${held.kind}' where '${one.kind}' was expected")
      List<String> names = (List<String>) one.variables
      if (one.kind == 'usernamePassword') {
        values[names[0]] = held.username
        values[names[1]] = held.password
        hidden.add((String) held.password)
      } else if (one.kind == 'file') {
        Path file = Files.createTempFile(beside(), 'secret', '', PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString('rw-------')))
        Files.write(file, ((String) held.content).decodeBase64())
        files.add(file)
        values[names[0]] = file.toString()
        hidden.add(file.toString())
      } else {
        values[names[0]] = held.secret
        hidden.add((String) held.secret)
      }
    }
    say("Masking supported pattern matches of ${values.keySet().collect { '$' + it }.join(' or ')}")
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

  /** Where things lie that are no part of the workspace. */
  private Path beside() { Files.createDirectories(Path.of("${workspaces.empty ? folder.resolve('none') : workspaces.last()}@tmp")) }

  // SonarQube.

  @Override void sonarqube(String name, Closure body) {
    onAgent('withSonarQubeEnv')
    Map server = (Map) given.sonarqube[name]
    if (server == null) throw new StepFailed("SonarQube installation defined in this job (${name}) does not match any configured installation")
    within([SONAR_CONFIG_NAME: name, SONAR_HOST_URL: (String) server.url, SONAR_AUTH_TOKEN: (String) server.token], [(String) server.token], body)
    Path report = Files.walk(workspaces.last(), 3).withCloseable { found ->
      found.filter { it.fileName.toString() == 'report-task.txt' }.findFirst().orElse(null)
    }
    if (report == null) return
    Properties told = new Properties()
    report.toFile().withReader { told.load(it) }
    analysis = [task: told.getProperty('ceTaskId'), server: server]
  }

  @Override void gate(boolean abortPipeline) {
    if (analysis == null) throw new StepFailed("Unable to get SonarQube task id and/or server name. Please use the 'withSonarQubeEnv' wrapper to run your analysis.")
    say("Checking status of SonarQube task '${analysis.task}'")
    Map task = (Map) ask("ce/task?id=${analysis.task}").task
    while (task.status in ['PENDING', 'IN_PROGRESS']) {
      look()
      TimeUnit.SECONDS.sleep(SECONDS_BETWEEN_LOOKS)
      task = (Map) ask("ce/task?id=${analysis.task}").task
    }
    if (task.status != 'SUCCESS') throw new StepFailed("SonarQube task '${analysis.task}' completed with status '${task.status}'")
    String status = ask("qualitygates/project_status?analysisId=${task.analysisId}").projectStatus.status
    say("SonarQube task '${analysis.task}' completed. Quality gate is '${status}'")
    did.notes.add("gate ${status}".toString())
    if (status != 'OK' && abortPipeline) throw new StepFailed("Pipeline aborted due to quality gate failure: ${status}")
  }

  private Map ask(String path) {
    look()
    HttpURLConnection asked = (HttpURLConnection) new URI("${analysis.server.url}/api/${path}").toURL().openConnection(Proxy.NO_PROXY)
    asked.setRequestProperty('Authorization', "Bearer ${analysis.server.token}")
    asked.connectTimeout = asked.readTimeout = 30_000
    try {
      return (Map) new JsonSlurper().parse(asked.inputStream)
    } catch (IOException failed) {
      throw new StepFailed("SonarQube does not answer api/${path}: ${failed.message}")
    }
  }

  // Files and reports.

  @Override boolean exists(String path) {
    onAgent('fileExists')
    Files.exists(workspaces.last().resolve(path))
  }

  @Override String read(String path) {
    onAgent('readFile')
    Files.readString(workspaces.last().resolve(path))
  }

  @Override void junit(Map asked) {
    onAgent('junit')
    Map<String, Integer> counts = [tests: 0, failures: 0, errors: 0, skipped: 0]
    List<Path> reports = matching((String) asked.testResults)
    reports.each { report ->
      List suites = elements(report, 'testsuite')
      suites.each { suite -> counts.keySet().each { counts[it] += (suite.getAttribute(it) ?: '0') as int } }
    }
    if (counts.tests == 0 && !asked.allowEmptyResults) throw new StepFailed('No test report files were found. Configuration error?')
    if (counts.tests == 0) return
    String note = "${counts.tests} tests, ${counts.failures + counts.errors} failed, ${counts.skipped} skipped"
    say("Recording test results: ${note}")
    did.notes.add(note)
    if (counts.failures + counts.errors > 0) unstable = true
  }

  @Override void coverage(Map asked) {
    onAgent('recordCoverage')
    asked.tools.each { Map tool ->
      if (tool.parser != 'COBERTURA') throw new StepFailed("no parser ${tool.parser}")
      List<Path> reports = matching((String) tool.pattern)
      if (reports.empty) say("[Coverage] no files found for pattern ${tool.pattern}")
      reports.each { report ->
        BigDecimal rate = (elements(report, 'coverage').first().getAttribute('line-rate') as BigDecimal) * 100
        String note = "${rate.setScale(1, java.math.RoundingMode.HALF_UP)} % of lines covered"
        say("[Coverage] ${note}")
        did.notes.add(note)
      }
    }
  }

  private static List elements(Path report, String name) {
    DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance()
    factory.setFeature('http://apache.org/xml/features/nonvalidating/load-external-dtd', false)
    def found = report.toFile().withInputStream { factory.newDocumentBuilder().parse(it) }.getElementsByTagName(name)
    (0..<found.length).collect { found.item(it) }
  }

  @Override void archive(Map asked) {
    onAgent('archiveArtifacts')
    List<Path> files = matching((String) asked.artifacts)
    if (files.empty && !asked.allowEmptyArchive) throw new StepFailed("No artifacts found that match the file pattern \"${asked.artifacts}\"")
    say("Archiving artifacts: ${files.size()}")
    copy(files, workspaces.last(), folder.resolve('archive'))
  }

  @Override void stash(Map asked) {
    onAgent('stash')
    List<Path> files = matching((String) asked.includes)
    if (files.empty) throw new StepFailed("No files included in stash '${asked.name}'")
    copy(files, workspaces.last(), folder.resolve("stash-${asked.name}"))
    say("Stashed ${files.size()} file(s)")
  }

  @Override void unstash(String name) {
    onAgent('unstash')
    Path stash = folder.resolve("stash-${name}")
    if (!Files.isDirectory(stash)) throw new StepFailed("No such saved stash '${name}'")
    List<Path> files = Files.walk(stash).withCloseable { found -> found.filter { Files.isRegularFile(it) }.toList() }
    copy(files, stash, workspaces.last())
  }

  private static void copy(List<Path> files, Path from, Path to) {
    files.each { file ->
      Path target = to.resolve(from.relativize(file).toString())
      Files.createDirectories(target.parent)
      Files.copy(file, target, StandardCopyOption.REPLACE_EXISTING)
    }
  }

  /** The files of the workspace that one of several patterns matches, which commas part. */
  private List<Path> matching(String patterns) {
    Path workspace = workspaces.last()
    List<PathMatcher> wanted = patterns.split(',').collect { FileSystems.default.getPathMatcher('glob:' + it.trim()) }
    // All patterns begin with a folder's name; the rest of the workspace, an environment for one, is large.
    Set<String> tops = patterns.split(',').collect { it.trim().split('/').first() } as Set
    tops.collect { workspace.resolve(it) }.findAll { Files.exists(it) }.collectMany { top ->
      Files.walk(top, 8).withCloseable { found ->
        found.filter { Files.isRegularFile(it) && wanted.any { pattern -> pattern.matches(workspace.relativize(it)) } }.sorted().toList()
      }
    }
  }
}
